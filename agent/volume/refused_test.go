package volume

import (
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func forbidden() error {
	return fmt.Errorf("fetch token: %w", apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts"}, "default",
		errors.New("node requested token bound to a pod scheduled on a different node")))
}

func TestOnlyAYoungRefusalIsQuiet(t *testing.T) {
	var r refusals
	start := time.Now()
	if !r.young("u", forbidden(), start) || !r.young("u", forbidden(), start.Add(refusedQuiet-1)) {
		t.Error("a young refusal is told")
	}
	if r.young("u", forbidden(), start.Add(refusedQuiet)) {
		t.Error("one that lasts is not told")
	}
	r.forget("u")
	if !r.young("u", forbidden(), start.Add(refusedQuiet)) {
		t.Error("the next refusal is not a new one")
	}
	if r.young("u", errors.New("the API server is away"), start) {
		t.Error("another error is taken for a refusal")
	}
}

// The authorizer is a little behind: no warning, and the volume comes.
func TestATokenThatIsRefusedAtFirstIsAskedForAgainQuietly(t *testing.T) {
	w := newWorld(t)
	w.tokens.set(func() { w.tokens.forbid = 3 })
	w.sync(parsePod(t, 1, "  - {name: all, projected: {sources: [{serviceAccountToken: {path: token}}]}}\n"))
	w.ready(uid(1))
	if got := w.events.String(); got != "" {
		t.Errorf("events: %s", got)
	}
}
