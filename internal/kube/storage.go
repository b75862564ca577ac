package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
)

func (c *Client) storage() *rest.RESTClient { return c.groups[storagev1.SchemeGroupVersion] }

// driverOf keeps a CSIDriver as it is, less what nobody reads.
func driverOf(o any) (model.Key, *storagev1.CSIDriver, bool) {
	d, ok := o.(*storagev1.CSIDriver)
	if !ok {
		return model.Key{}, nil, false
	}
	d.ManagedFields = nil
	return model.Key{Name: d.Name}, d, true
}

// GetSecret reads one Secret: of a pod of this node, or one that a volume of such a pod names.
func (c *Client) GetSecret(ctx context.Context, key model.Key) (*corev1.Secret, error) {
	return into[corev1.Secret](ctx, c.core().Get().Namespace(key.Namespace).Resource("secrets").Name(key.Name))
}

// GetVolumeAttachment reads what the attacher says of one volume on one node.
func (c *Client) GetVolumeAttachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error) {
	return into[storagev1.VolumeAttachment](ctx, c.storage().Get().Resource("volumeattachments").Name(name))
}

// GetClaim reads a claim of a pod of this node, and its volume when it is bound.
func (c *Client) GetClaim(ctx context.Context, key model.Key) (*model.Claim, error) {
	return c.readClaim(ctx, key)
}

// PatchClaimStatus sends a strategic merge patch to the status of a claim.
func (c *Client) PatchClaimStatus(ctx context.Context, key model.Key, patch []byte) (*corev1.PersistentVolumeClaim, error) {
	return into[corev1.PersistentVolumeClaim](ctx, c.core().Patch(types.StrategicMergePatchType).
		Namespace(key.Namespace).Resource("persistentvolumeclaims").Name(key.Name).SubResource("status").Body(patch))
}

// GetCSINode reads which CSI drivers a node has.
func (c *Client) GetCSINode(ctx context.Context, name string) (*storagev1.CSINode, error) {
	return into[storagev1.CSINode](ctx, c.storage().Get().Resource("csinodes").Name(name))
}

// CreateCSINode says for the first time which CSI drivers a node has.
func (c *Client) CreateCSINode(ctx context.Context, n *storagev1.CSINode) (*storagev1.CSINode, error) {
	return into[storagev1.CSINode](ctx, c.storage().Post().Resource("csinodes").Body(n))
}

// UpdateCSINode replaces it; an outdated resource version gives a conflict.
func (c *Client) UpdateCSINode(ctx context.Context, n *storagev1.CSINode) (*storagev1.CSINode, error) {
	return into[storagev1.CSINode](ctx, c.storage().Put().Resource("csinodes").Name(n.Name).Body(n))
}
