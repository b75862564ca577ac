package kube

import (
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxSaid bounds the different reasons that are logged in one outage.
const maxSaid = 20

// mendForbidden says how a refusal is mended, where that is known: in a cluster that others made, nodes may read
// less than a proxy must. Of what a pod refers to, the API server decides by itself, and mostly for a moment.
func mendForbidden(err error) string {
	var refused apierrors.APIStatus
	if !apierrors.IsForbidden(err) || !errors.As(err, &refused) || refused.Status().Details == nil {
		return ""
	}
	switch refused.Status().Details.Kind {
	case "services", "nodes", "namespaces", "endpointslices", "networkpolicies":
		return "; let the cluster's nodes read it: kubectl apply -f deploy/rbac.yaml (docs/join.md)"
	}
	return ""
}

// Contact keeps track of whether the API server answers, and logs only when
// that changes, or when the reason does: once, and not once per attempt.
// A nil *Contact swallows everything.
type Contact struct {
	Log  *slog.Logger
	Host string

	mu      sync.Mutex
	failing map[string]string // source -> last error
	said    map[string]bool   // texts logged since all was well
	since   time.Time
}

// Lost gives the time since when no source could be read, zero when all can,
// and one of the errors.
func (c *Contact) Lost() (since time.Time, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.failing {
		return c.since, e
	}
	return time.Time{}, ""
}

func (c *Contact) note(source string, err error) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if _, was := c.failing[source]; was {
			delete(c.failing, source)
			if len(c.failing) == 0 {
				c.Log.Info("API server answers again", "server", c.Host, "after", time.Since(c.since).Round(time.Millisecond))
				c.since = time.Time{}
			}
		}
		return
	}
	text := plain(err) + mendForbidden(err)
	if len(c.failing) == 0 {
		c.failing, c.said, c.since = map[string]string{}, map[string]bool{}, time.Now()
	}
	c.failing[source] = text
	if !c.said[text] && len(c.said) < maxSaid {
		c.said[text] = true
		c.Log.Warn("API server not usable, going on with what is known", "server", c.Host, "reading", source, "err", text)
	}
}

// plain is the text of an error without the URL of the request, which differs
// from attempt to attempt.
func plain(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}
