package nftables

import (
	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// setHanded holds the frontends whose endpoints IPVS chooses.
const setHanded = "handed-to-ipvs"

// HandedOver tells whether a back end made with Config.Handover leaves the
// choice of an endpoint to IPVS: IPVS knows neither sources nor policies that
// depend on them, its persistence outlives the Service's timeout by the two
// minutes of TIME_WAIT, it would need a virtual server for each address of
// the node, its answers must come back through the node, and it does not
// masquerade what it sends to the node itself.
func HandedOver(s *lb.State, t lb.Target) bool {
	if t.Port == nil || t.Kind.WholeAddress() || t.Kind == lb.NodePort {
		return false
	}
	p := planOf(s.Config(), t)
	if p.action != lb.Balance || p.sticky || p.policy == external || p.masq == never {
		return false
	}
	for _, e := range t.Route(s.Config(), lb.FromOutside).Endpoints {
		if s.LocalAddr(e.Addr()) {
			return false
		}
	}
	return true
}

// plan gives the plan for a frontend in this table.
func (c *content) plan(t lb.Target) plan {
	p := planOf(c.cfg, t)
	if c.handover && c.state != nil && HandedOver(c.state, t) {
		p.handed, p.policy, p.cluster, p.local = true, clusterWide, 0, 0
	}
	return p
}

// ipvsFrontend matches connections to frontends that IPVS sends on: by what
// the client asked for, because IPVS does not tell conntrack that it translates.
func (f *family) ipvsFrontend() []nft.Stmt {
	return []nft.Stmt{
		nft.Load(0, nft.CtOriginalDst), nft.Load(f.words, nft.L4Proto), nft.Load(f.words+1, nft.CtOriginalDstPort),
		nft.Member(setHanded, 0),
	}
}

// postroutingIPVS is postrouting for what IPVS sends on.
func (f *family) postroutingIPVS(cfg *lb.Config) []nft.Rule {
	return []nft.Rule{
		rule("marked, sent on by IPVS", f.ipvsFrontend(), []nft.Stmt{
			nft.HasBits(nft.PacketMark, cfg.Mark()), nft.ClearBits(cfg.Mark()), nft.Masquerade(),
		}),
		rule("an endpoint to itself, by IPVS", f.ipvsFrontend(), []nft.Stmt{
			nft.Load(0, nft.SrcAddr), nft.Load(f.words, nft.DstAddr), nft.Member(setLoops, 0), nft.Masquerade(),
		}),
	}
}
