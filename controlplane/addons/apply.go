package addons

import (
	"context"
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ours takes fields back from whoever changed them by hand.
var ours = metav1.ApplyOptions{FieldManager: "nodelet", Force: true}

// ApplyRights gives nodes and the API server's kubelet client their roles.
func ApplyRights(ctx context.Context, c kubernetes.Interface) error {
	if _, err := c.RbacV1().ClusterRoles().Apply(ctx, nodeRole(), ours); err != nil {
		return fmt.Errorf("apply cluster role %s: %w", roleNode, err)
	}
	for _, b := range bindings() { // in this order: InForce asks for the last
		if _, err := c.RbacV1().ClusterRoleBindings().Apply(ctx, b, ours); err != nil {
			return fmt.Errorf("apply cluster role binding %s: %w", *b.Name, err)
		}
	}
	return nil
}

// ApplyDNS announces the cluster DNS address.
func ApplyDNS(ctx context.Context, c kubernetes.Interface, address netip.Addr) error {
	services := c.CoreV1().Services(dnsNamespace)
	_, err := services.Apply(ctx, dnsService(address), ours)
	if apierrors.IsInvalid(err) {
		// A Service cannot change its address: the operator chose another one.
		if err := services.Delete(ctx, dnsName, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete service %s/%s: %w", dnsNamespace, dnsName, err)
		}
		_, err = services.Apply(ctx, dnsService(address), ours)
	}
	if err != nil {
		return fmt.Errorf("apply service %s/%s at %s: %w", dnsNamespace, dnsName, address, err)
	}
	return nil
}
