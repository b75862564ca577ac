package kube

import (
	"context"
	"fmt"
	"math"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const bundlesResource = "clustertrustbundles"

// Waits between two questions whether the API server serves ClusterTrustBundles; the first refusals are not told,
// as in an all-in-one the rules of who may read what are younger than the node.
const (
	bundlesFirst = 100 * time.Millisecond
	bundlesLast  = time.Minute
	bundlesQuiet = 6
)

// reflectTrustBundles keeps table TrustBundles from the time when a pod of this node wants one: most clusters do
// not serve the kind, which is stable since Kubernetes 1.37 and off by default before (KEP-3257).
func (r *Reflector) reflectTrustBundles(ctx context.Context) {
	wanted := false
	looking, found := context.WithCancel(ctx)
	defer found()
	loop := reconcile.Loop{
		Name: "trust bundles", Store: r.Store, Log: r.Log,
		Ready:    func(n *store.Snapshot) bool { return n.Pods.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool { return prev.Pods.Last() != next.Pods.Last() },
		Sync: func(_ context.Context, _, next *store.Snapshot) error {
			for _, pod := range next.Pods.All() {
				if wanted = wanted || podref.TrustBundles(pod); wanted {
					found()
				}
			}
			return nil
		},
	}
	_ = loop.Run(looking) // returns nil once that has ended
	if !wanted {
		return
	}
	// Pods without trust anchors wait; no other part of the node suffers.
	optional := *r
	optional.Contact = nil
	if from, object, ok := optional.findTrustBundles(ctx); ok {
		reflect(ctx, &optional, from, object, sink(r.Writers.TrustBundles, trustBundleOf))
	}
}

// findTrustBundles asks until the API server serves the kind to us, and says meanwhile why it does not.
func (r *Reflector) findTrustBundles(ctx context.Context) (source, runtime.Object, bool) {
	for try := 1; ; try++ {
		from, object, err := r.Client.servedTrustBundles(ctx)
		if err == nil {
			return from, object, true
		}
		if try > bundlesQuiet {
			r.Writers.TrustBundles.Set(model.Key{}, &model.TrustBundle{Problem: plain(err)})
		}
		select {
		case <-ctx.Done():
			return source{}, nil, false
		case <-time.After(min(bundlesLast, time.Duration(float64(bundlesFirst)*math.Pow(1.3, float64(min(try, 40)-1))))):
		}
	}
}

// servedTrustBundles finds the newest version of the kind that the API server serves.
func (c *Client) servedTrustBundles(ctx context.Context) (source, runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, v := range []struct {
		source
		object runtime.Object
	}{
		{source{client: c.certificates(), resource: bundlesResource}, &certificatesv1.ClusterTrustBundle{}},
		{source{client: c.groups[certificatesv1beta1.SchemeGroupVersion], resource: bundlesResource}, &certificatesv1beta1.ClusterTrustBundle{}},
	} {
		err := v.client.Get().Resource(bundlesResource).VersionedParams(&metav1.ListOptions{Limit: 1}, c.params).Do(ctx).Error()
		if err == nil {
			return v.source, v.object, nil
		}
		if !apierrors.IsNotFound(err) {
			return source{}, nil, fmt.Errorf("list ClusterTrustBundles: %w", err)
		}
	}
	return source{}, nil, fmt.Errorf("the API server serves no ClusterTrustBundles: they are part of Kubernetes 1.37, or of 1.33 and later with --feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true and --runtime-config=%s/%s=true",
		certificatesv1beta1.SchemeGroupVersion, bundlesResource)
}

// trustBundleOf keeps of a ClusterTrustBundle what volumes are made from.
func trustBundleOf(o any) (model.Key, *model.TrustBundle, bool) {
	var out *model.TrustBundle
	switch b := o.(type) {
	case *certificatesv1.ClusterTrustBundle:
		out = &model.TrustBundle{Name: b.Name, ResourceVersion: b.ResourceVersion, Labels: b.Labels, Signer: b.Spec.SignerName, Anchors: b.Spec.TrustBundle}
	case *certificatesv1beta1.ClusterTrustBundle:
		out = &model.TrustBundle{Name: b.Name, ResourceVersion: b.ResourceVersion, Labels: b.Labels, Signer: b.Spec.SignerName, Anchors: b.Spec.TrustBundle}
	default:
		return model.Key{}, nil, false
	}
	return out.Key(), out, true
}
