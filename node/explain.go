package node

import (
	"context"

	"nodelet/cni"
	"nodelet/explain"
	"nodelet/explain/gather"
	"nodelet/internal/model"
)

// explain answers what happens to a packet, and why.
func (n *Node) explain(ctx context.Context, question string) (any, error) {
	q, err := explain.Parse(question)
	if err != nil {
		return nil, err
	}
	deps := gather.Deps{Store: n.store}
	if n.proxy != nil {
		deps.State, deps.Describe, deps.ReadBack = n.proxy.State, n.proxy.Describe, n.proxy.ReadBack
	}
	if n.cni != nil {
		deps.Attachments = n.attachments
	}
	cfg := gather.Config{NodeName: n.cfg.NodeName, ClusterDomain: n.cfg.ClusterDomain, ServiceCIDRs: n.cfg.ServiceCIDRs}
	facts, err := gather.Facts(ctx, cfg, deps, q)
	if err != nil {
		return nil, err
	}
	return explain.Explain(facts), nil
}

// attachments lists the pods on this node's network.
func (n *Node) attachments() ([]gather.Attachment, error) {
	leases, err := cni.Attachments(n.cfg.Layout.CNIState())
	out := make([]gather.Attachment, 0, len(leases))
	for _, l := range leases {
		out = append(out, gather.Attachment{
			Pod: model.ParseKey(l.Pod), Addrs: l.Addrs, Link: l.Veth, IfName: l.IfName, Netns: l.Netns,
		})
	}
	return out, err
}
