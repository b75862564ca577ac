package kube

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
)

// into runs one request within the time limit and decodes the answer.
func into[T any, P interface {
	*T
	runtime.Object
}](ctx context.Context, r *rest.Request) (P, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out := P(new(T))
	if err := r.Do(ctx).Into(out); err != nil {
		return nil, err
	}
	return out, nil
}

// GetPod reads one pod.
func (c *Client) GetPod(ctx context.Context, key model.Key) (*corev1.Pod, error) {
	return into[corev1.Pod](ctx, c.core().Get().Namespace(key.Namespace).Resource("pods").Name(key.Name))
}

// CreatePod creates a pod, e.g. the mirror of a static one.
func (c *Client) CreatePod(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	return into[corev1.Pod](ctx, c.core().Post().Namespace(pod.Namespace).Resource("pods").Body(pod))
}

// PatchPodStatus sends a strategic merge patch to the status of the pod with
// that UID. A pod of the same name with another UID gives a conflict: the
// patch must carry metadata.uid.
func (c *Client) PatchPodStatus(ctx context.Context, key model.Key, _ model.UID, patch []byte) (*corev1.Pod, error) {
	return into[corev1.Pod](ctx, c.core().Patch(types.StrategicMergePatchType).
		Namespace(key.Namespace).Resource("pods").Name(key.Name).SubResource("status").Body(patch))
}

// DeletePod removes the API object of the pod with that UID at once (grace 0).
func (c *Client) DeletePod(ctx context.Context, key model.Key, uid model.UID) error {
	u, zero := types.UID(uid), int64(0)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.core().Delete().Namespace(key.Namespace).Resource("pods").Name(key.Name).
		Body(&metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &u}}).
		Do(ctx).Error()
}

// CreateToken asks for a bound token of a service account.
func (c *Client) CreateToken(ctx context.Context, sa model.Key, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	return into[authenticationv1.TokenRequest](ctx, c.core().Post().Namespace(sa.Namespace).
		Resource("serviceaccounts").Name(sa.Name).SubResource("token").Body(req))
}

// GetNode reads a node.
func (c *Client) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	return into[corev1.Node](ctx, c.core().Get().Resource("nodes").Name(name))
}

// CreateNode registers a node.
func (c *Client) CreateNode(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	return into[corev1.Node](ctx, c.core().Post().Resource("nodes").Body(node))
}

// PatchNode sends a strategic merge patch to a node.
func (c *Client) PatchNode(ctx context.Context, name string, patch []byte) (*corev1.Node, error) {
	return into[corev1.Node](ctx, c.core().Patch(types.StrategicMergePatchType).Resource("nodes").Name(name).Body(patch))
}

// PatchNodeStatus sends a strategic merge patch to the status of a node; no rate holds it up, as it is a heartbeat.
func (c *Client) PatchNodeStatus(ctx context.Context, name string, patch []byte) (*corev1.Node, error) {
	return into[corev1.Node](ctx, c.core().Patch(types.StrategicMergePatchType).Throttle(unthrottled()).Resource("nodes").Name(name).SubResource("status").Body(patch))
}

func (c *Client) leases() *rest.RESTClient { return c.groups[coordinationv1.SchemeGroupVersion] }

// GetLease reads a lease.
func (c *Client) GetLease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return into[coordinationv1.Lease](ctx, c.leases().Get().Namespace(namespace).Resource("leases").Name(name))
}

// CreateLease creates a lease.
func (c *Client) CreateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return into[coordinationv1.Lease](ctx, c.leases().Post().Namespace(l.Namespace).Resource("leases").Body(l))
}

// UpdateLease replaces a lease; an outdated resource version gives a conflict.
func (c *Client) UpdateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return into[coordinationv1.Lease](ctx, c.leases().Put().Namespace(l.Namespace).Resource("leases").Name(l.Name).Body(l))
}

// TokenReview asks the API server whose bearer token this is.
func (c *Client) TokenReview(ctx context.Context, r *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error) {
	return into[authenticationv1.TokenReview](ctx, c.groups[authenticationv1.SchemeGroupVersion].Post().Resource("tokenreviews").Body(r))
}

// SubjectAccessReview asks the API server whether somebody may do something.
func (c *Client) SubjectAccessReview(ctx context.Context, r *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
	return into[authorizationv1.SubjectAccessReview](ctx, c.groups[authorizationv1.SchemeGroupVersion].Post().Resource("subjectaccessreviews").Body(r))
}
