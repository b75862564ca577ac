package kube

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

func (c *Client) certificates() *rest.RESTClient {
	return c.groups[certificatesv1.SchemeGroupVersion]
}

// Between two looks at a request: a controller answers in milliseconds, a person in minutes.
const (
	firstLook = 50 * time.Millisecond
	lastLook  = 5 * time.Second
)

// RequestCertificate creates a request, or takes up the one of that name, and waits for what becomes of
// it: it returns when the request has a certificate, or a condition that says it never will.
func (c *Client) RequestCertificate(ctx context.Context, r *certificatesv1.CertificateSigningRequest) (*certificatesv1.CertificateSigningRequest, error) {
	requests := func(r *rest.Request) *rest.Request { return r.Resource("certificatesigningrequests") }
	now, err := into[certificatesv1.CertificateSigningRequest](ctx, requests(c.certificates().Post()).Body(r))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("ask %s for a certificate: %w", c.host, err)
	}
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		if err == nil && answered(now) {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for certificate request %s: %w", r.Name, ctx.Err())
		case <-time.After(wait):
		}
		now, err = into[certificatesv1.CertificateSigningRequest](ctx, requests(c.certificates().Get()).Name(r.Name))
		if err != nil && (apierrors.IsNotFound(err) || apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err)) {
			return nil, fmt.Errorf("read certificate request %s: %w", r.Name, err)
		}
	}
}

func answered(r *certificatesv1.CertificateSigningRequest) bool {
	for _, c := range r.Status.Conditions {
		if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
			return true
		}
	}
	return len(r.Status.Certificate) > 0
}
