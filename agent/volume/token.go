package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"nodelet/agent/volume/atomic"
	"nodelet/agent/volume/volumeplan"
)

// tokenRetry is how soon a refresh is tried again while the old token still
// serves, and the least time between two looks at a token.
const tokenRetry = 10 * time.Second

// tokenPatience bounds a request to the API server.
const tokenPatience = 30 * time.Second

// token gives a token for the volume: the one in it as long as it is fresh, so
// that a restart of the daemon asks for nothing, else a new one.
func (m *maker) token(ctx context.Context, root *os.Root, t volumeplan.Token) ([]byte, error) {
	now := time.Now()
	old, issued, serves := m.present(root, t, now)
	if due := issued.Refresh(m.uid); serves && now.Before(due) {
		m.wait(max(due.Sub(now), tokenRetry))
		return old, nil
	}
	fresh, err := m.request(ctx, t)
	if err == nil {
		if issued, err := volumeplan.ParseToken(fresh); err == nil {
			m.wait(max(issued.Refresh(m.uid).Sub(now), tokenRetry))
		}
		return fresh, nil
	}
	if serves {
		m.deps.Log.Warn("refresh token: the old one serves until it expires", "pod", m.uid, "path", t.Path, "expires", issued.Expires, "err", err)
		m.wait(tokenRetry)
		return old, nil
	}
	return nil, err
}

// present reads the token that the volume holds; serves tells whether it is
// the one that t wants and has not expired.
func (m *maker) present(root *os.Root, t volumeplan.Token, now time.Time) (data []byte, issued volumeplan.Issued, serves bool) {
	data, err := atomic.Read(root, t.Path)
	if err != nil {
		return nil, issued, false
	}
	issued, err = volumeplan.ParseToken(data)
	return data, issued, err == nil && t.Serves(issued, m.uid) && now.Before(issued.Expires)
}

// request asks the API server for a token bound to the pod.
func (m *maker) request(ctx context.Context, t volumeplan.Token) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenPatience)
	defer cancel()
	seconds := int64(t.Lifetime / time.Second)
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: m.pod.Name, UID: m.pod.UID},
	}}
	if t.Audience != "" {
		req.Spec.Audiences = []string{t.Audience}
	}
	got, err := m.deps.Tokens.CreateToken(ctx, t.ServiceAccount, req)
	if err != nil {
		return nil, fmt.Errorf("fetch token of service account %s: %w", t.ServiceAccount, err)
	}
	if got.Status.Token == "" {
		return nil, errors.New("fetch token: the API server answered without one")
	}
	return []byte(got.Status.Token), nil
}
