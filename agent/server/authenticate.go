package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
)

// identity is who asks.
type identity struct {
	name, uid string
	groups    []string
	extra     map[string]authorizationv1.ExtraValue
}

const (
	// tokenTTL is upstream's authentication.webhook.cacheTTL.
	tokenTTL = 2 * time.Minute
	// reviewTimeout bounds one question to the API server.
	reviewTimeout = 10 * time.Second
	// maxToken is far more than any token has.
	maxToken = 64 << 10
	// allAuthenticated is the group of everybody who is known.
	allAuthenticated = "system:authenticated"
)

var (
	errNobody  = errors.New("neither a client certificate nor a bearer token was given")
	errRefused = errors.New("the token is not valid")
)

// authenticate says who asks: by client certificate, else by bearer token. There is no anonymous.
func (s *Server) authenticate(r *http.Request) (identity, error) {
	cert, certErr := s.certs.verify(r.TLS)
	if certErr == nil && cert != nil {
		sum := sha256.Sum256(cert.Raw)
		return known(identity{
			name: cert.Subject.CommonName, groups: cert.Subject.Organization,
			extra: map[string]authorizationv1.ExtraValue{"authentication.kubernetes.io/credential-id": {"X509SHA256=" + hex.EncodeToString(sum[:])}},
		})
	}
	token, ok := bearer(r)
	if !ok {
		if certErr != nil {
			return identity{}, fmt.Errorf("verify client certificate: %w", certErr)
		}
		return identity{}, errNobody
	}
	return s.tokens.identity(r.Context(), token)
}

// known adds the group of all who are known. Who has no name is nobody.
func known(id identity) (identity, error) {
	if id.name == "" {
		return identity{}, errors.New("the credential names no user")
	}
	id.groups = append(append([]string{}, id.groups...), allAuthenticated)
	return id, nil
}

// bearer takes the token out of the one Authorization header.
func bearer(r *http.Request) (string, bool) {
	all := r.Header.Values("Authorization")
	if len(all) != 1 || len(all[0]) > maxToken {
		return "", false
	}
	scheme, token, ok := strings.Cut(strings.TrimSpace(all[0]), " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "bearer") && token != ""
}

// tokens asks the API server about tokens and remembers the answers.
type tokens struct {
	reviews Reviews
	cache   *cache[[32]byte, *identity] // nil: not valid
	slots   chan struct{}
	ttl     time.Duration
}

// maxReviews bounds the questions under way, so that a flood of bad tokens does not become one of the API server.
const maxReviews = 16

func newTokens(reviews Reviews, ttl time.Duration) *tokens {
	return &tokens{reviews: reviews, cache: newCache[[32]byte, *identity](), slots: make(chan struct{}, maxReviews), ttl: ttl}
}

func (t *tokens) identity(ctx context.Context, token string) (identity, error) {
	key := sha256.Sum256([]byte(token)) // so that no token is kept in memory
	if id, ok := t.cache.get(key, time.Now()); ok {
		if id == nil {
			return identity{}, errRefused
		}
		return *id, nil
	}
	if t.reviews == nil {
		return identity{}, errors.New("there is no API server to ask about tokens")
	}
	var answer *authenticationv1.TokenReview
	err := limited(ctx, t.slots, func(ctx context.Context) (err error) {
		answer, err = t.reviews.TokenReview(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}})
		return err
	})
	if err != nil {
		return identity{}, fmt.Errorf("review token: %w", err)
	}
	if !answer.Status.Authenticated {
		t.cache.put(key, nil, time.Now().Add(t.ttl))
		return identity{}, errRefused
	}
	u := answer.Status.User
	id, err := known(identity{name: u.Username, uid: u.UID, groups: u.Groups, extra: extra(u.Extra)})
	if err != nil {
		return identity{}, err
	}
	t.cache.put(key, &id, time.Now().Add(t.ttl))
	return id, nil
}

func extra(in map[string]authenticationv1.ExtraValue) map[string]authorizationv1.ExtraValue {
	out := make(map[string]authorizationv1.ExtraValue, len(in))
	for k, v := range in {
		out[k] = authorizationv1.ExtraValue(v)
	}
	return out
}

// limited runs a question to the API server with a deadline, waiting for a slot first.
func limited(ctx context.Context, slots chan struct{}, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
		return ask(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}
