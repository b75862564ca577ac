package kube

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What a node may not read is told with the way to let it.
func TestForbiddenSaysHowToMend(t *testing.T) {
	var said strings.Builder
	c := &Contact{Log: slog.New(slog.NewTextHandler(&said, nil)), Host: "https://api"}
	c.note("endpointslices", apierrors.NewForbidden(schema.GroupResource{Resource: "endpointslices"}, "", errors.New("no")))
	if _, reason := c.Lost(); !strings.Contains(reason, "kubectl apply -f deploy/rbac.yaml") || !strings.Contains(said.String(), reason) {
		t.Errorf("told %q, logged %s", reason, said.String())
	}
	c.note("endpointslices", errors.New("connection refused"))
	if _, reason := c.Lost(); strings.Contains(reason, "rbac") {
		t.Errorf("told %q", reason)
	}
}
