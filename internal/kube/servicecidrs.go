package kube

import (
	"context"
	"net/netip"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"nodelet/internal/model"
)

// rareRetry grows to one attempt in ten minutes: an API server before 1.33
// never serves the kind, and a cluster's rules may never let us read it.
func rareRetry() *wait.Backoff {
	return &wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.3, Jitter: 0.2, Steps: 40, Cap: 10 * time.Minute}
}

// reflectServiceCIDRs keeps the table of ranges of cluster IPs. Without them
// the proxy only does less, so a refusal is not held against the connection.
func (r *Reflector) reflectServiceCIDRs(ctx context.Context, wg *sync.WaitGroup) {
	if !r.ServiceCIDRs {
		return
	}
	optional := *r
	optional.Contact = nil
	cidrs := source{client: r.Client.groups[networkingv1.SchemeGroupVersion], resource: "servicecidrs", retry: rareRetry}
	wg.Go(func() {
		reflect(ctx, &optional, cidrs, &networkingv1.ServiceCIDR{}, sink(r.Writers.ServiceCIDRs, serviceCIDROf))
	})
}

// serviceCIDROf leaves out what is no range: the API server lets none pass.
func serviceCIDROf(o any) (model.Key, *model.ServiceCIDR, bool) {
	c, ok := o.(*networkingv1.ServiceCIDR)
	if !ok {
		return model.Key{}, nil, false
	}
	out := &model.ServiceCIDR{Name: c.Name, ResourceVersion: c.ResourceVersion}
	for _, text := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
			out.CIDRs = append(out.CIDRs, p.Masked())
		}
	}
	return out.Key(), out, true
}
