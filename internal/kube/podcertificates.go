package kube

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
)

// GetServiceAccount reads the service account of a pod of this node.
func (c *Client) GetServiceAccount(ctx context.Context, key model.Key) (*corev1.ServiceAccount, error) {
	return into[corev1.ServiceAccount](ctx, c.core().Get().Namespace(key.Namespace).Resource("serviceaccounts").Name(key.Name))
}

// CreatePodCertificateRequest asks the signer it names for a certificate of a pod of this node (KEP-4317).
// API servers before 1.37 serve v1beta1, or nothing: then the error is NotFound.
func (c *Client) CreatePodCertificateRequest(ctx context.Context, r *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error) {
	request := func(client *rest.RESTClient) *rest.Request {
		return client.Post().Namespace(r.Namespace).Resource("podcertificaterequests")
	}
	out, err := into[certificatesv1.PodCertificateRequest](ctx, request(c.certificates()).Body(r))
	if !apierrors.IsNotFound(err) {
		return out, err
	}
	s := r.Spec
	old := &certificatesv1beta1.PodCertificateRequest{ObjectMeta: r.ObjectMeta, Spec: certificatesv1beta1.PodCertificateRequestSpec{
		SignerName: s.SignerName, PodName: s.PodName, PodUID: s.PodUID, ServiceAccountName: s.ServiceAccountName, ServiceAccountUID: s.ServiceAccountUID,
		NodeName: s.NodeName, NodeUID: s.NodeUID, MaxExpirationSeconds: s.MaxExpirationSeconds,
		StubPKCS10Request: s.StubPKCS10Request, UnverifiedUserAnnotations: s.UnverifiedUserAnnotations,
	}}
	return podCertificateOf(into[certificatesv1beta1.PodCertificateRequest](ctx, request(c.groups[certificatesv1beta1.SchemeGroupVersion]).Body(old)))
}

// GetPodCertificateRequest reads what has become of a request that this node has made.
func (c *Client) GetPodCertificateRequest(ctx context.Context, key model.Key) (*certificatesv1.PodCertificateRequest, error) {
	request := func(client *rest.RESTClient) *rest.Request {
		return client.Get().Namespace(key.Namespace).Resource("podcertificaterequests").Name(key.Name)
	}
	out, err := into[certificatesv1.PodCertificateRequest](ctx, request(c.certificates()))
	if !apierrors.IsNotFound(err) {
		return out, err
	}
	return podCertificateOf(into[certificatesv1beta1.PodCertificateRequest](ctx, request(c.groups[certificatesv1beta1.SchemeGroupVersion])))
}

// podCertificateOf gives name and status of a request in the form of v1.
func podCertificateOf(r *certificatesv1beta1.PodCertificateRequest, err error) (*certificatesv1.PodCertificateRequest, error) {
	if err != nil {
		return nil, err
	}
	s := r.Status
	return &certificatesv1.PodCertificateRequest{ObjectMeta: r.ObjectMeta, Status: certificatesv1.PodCertificateRequestStatus{
		Conditions: s.Conditions, CertificateChain: s.CertificateChain, NotBefore: s.NotBefore, BeginRefreshAt: s.BeginRefreshAt, NotAfter: s.NotAfter,
	}}, nil
}
