package server

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// How long an answer of the API server is good for: upstream's cacheAuthorizedTTL and
// cacheUnauthorizedTTL.
const (
	allowedTTL = 5 * time.Minute
	deniedTTL  = 30 * time.Second
)

// authorize says whether somebody may do what a request asks for: one of its subresources must be
// allowed. It is the only such function.
func (s *Server) authorize(ctx context.Context, who identity, req request) (ok bool, reason string, err error) {
	if req.verb == "" || len(req.subresources) == 0 {
		return false, "no verb for this method", nil
	}
	for _, sub := range req.subresources {
		ok, reason, err = s.access.ask(ctx, who, req.verb, sub)
		if ok || err != nil {
			return ok, reason, err
		}
	}
	return false, reason, nil
}

// access asks the API server what is allowed and remembers the answers.
type access struct {
	reviews Reviews
	node    string
	cache   *cache[[32]byte, bool]
	slots   chan struct{}
	// allowed and denied are how long answers are good for.
	allowed, denied time.Duration
}

func newAccess(reviews Reviews, c *Config) *access {
	return &access{
		reviews: reviews, node: c.NodeName, cache: newCache[[32]byte, bool](), slots: make(chan struct{}, maxReviews),
		allowed: c.AllowedTTL, denied: c.DeniedTTL,
	}
}

func (a *access) ask(ctx context.Context, who identity, verb, subresource string) (ok bool, reason string, err error) {
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: who.name, UID: who.uid, Groups: who.groups, Extra: who.extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.node,
		},
	}
	text, err := json.Marshal(spec) // maps are written in the order of their keys
	if err != nil {
		return false, "", fmt.Errorf("encode access review: %w", err)
	}
	key := sha256.Sum256(text)
	if ok, cached := a.cache.get(key, time.Now()); cached {
		return ok, "remembered", nil
	}
	if a.reviews == nil {
		return false, "", fmt.Errorf("there is no API server to ask about access")
	}
	var answer *authorizationv1.SubjectAccessReview
	err = limited(ctx, a.slots, func(ctx context.Context) (err error) {
		answer, err = a.reviews.SubjectAccessReview(ctx, &authorizationv1.SubjectAccessReview{Spec: spec})
		return err
	})
	if err != nil {
		return false, "", fmt.Errorf("review access: %w", err)
	}
	ok = answer.Status.Allowed && !answer.Status.Denied
	ttl := a.denied
	if ok {
		ttl = a.allowed
	}
	a.cache.put(key, ok, time.Now().Add(ttl))
	return ok, answer.Status.Reason, nil
}
