package kube

import (
	"context"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"nodelet/internal/model"
)

// GetResourceClaim reads one claim that a pod of this node refers to: a node
// may get those by name, but not list or watch them.
func (c *Client) GetResourceClaim(ctx context.Context, key model.Key) (*resourcev1.ResourceClaim, error) {
	return into[resourcev1.ResourceClaim](ctx, c.groups[resourcev1.SchemeGroupVersion].Get().
		Namespace(key.Namespace).Resource("resourceclaims").Name(key.Name))
}

// DeleteResourceSlices removes what drivers publish of a node: those of one
// driver, or of all where driver is empty. A node may do that for itself only.
func (c *Client) DeleteResourceSlices(ctx context.Context, node, driver string) error {
	selector := fields.Set{resourcev1.ResourceSliceSelectorNodeName: node}
	if driver != "" {
		selector[resourcev1.ResourceSliceSelectorDriver] = driver
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.groups[resourcev1.SchemeGroupVersion].Delete().Resource("resourceslices").
		VersionedParams(&metav1.ListOptions{FieldSelector: selector.String()}, c.params).Do(ctx).Error()
}
