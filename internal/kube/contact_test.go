package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What a node may not read is told with the way to let it, if that is one: other refusals are the API server's own.
func TestForbiddenSaysHowToMend(t *testing.T) {
	forbidden := func(resource string) error {
		return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no"))
	}
	for _, c := range []struct {
		err  error
		mend bool
	}{
		{forbidden("endpointslices"), true}, {fmt.Errorf("list: %w", forbidden("nodes")), true}, {forbidden("secrets"), false},
		{errors.New("connection refused"), false}, {apierrors.NewUnauthorized("who are you?"), false},
	} {
		var said strings.Builder
		contact := &Contact{Log: slog.New(slog.NewTextHandler(&said, nil)), Host: "https://api"}
		contact.note("a source", c.err)
		_, reason := contact.Lost()
		if strings.Contains(reason, "kubectl apply -f deploy/rbac.yaml") != c.mend || !strings.Contains(said.String(), reason) {
			t.Errorf("told %q, logged %s", reason, said.String())
		}
	}
}
