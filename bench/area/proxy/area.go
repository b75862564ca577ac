package proxy

import (
	"fmt"
	"strings"

	"nodelet/bench/area"
	"nodelet/bench/result"
)

// The numbers of Services that everybody is measured with, and the one only nodelet is.
var sizes = []int{100, 1000, 10_000}

const huge = 50_000

// How many endpoints each Service has.
const (
	usualEndpoints = 2
	hugeEndpoints  = 5
)

// trafficSize is the size with which connections and throughput are measured, topSize the one
// with which processor time is.
const (
	trafficSize = 1000
	topSize     = 10_000
)

const (
	nodeletNFT, nodeletIPT, nodeletBPF       = "nodelet nftables", "nodelet iptables", "nodelet eBPF"
	upstreamLegacy, upstreamIPT, upstreamNFT = "kube-proxy iptables-legacy", "kube-proxy iptables-nft", "kube-proxy nftables"
	direct                                   = "no proxy"
	// oneUpdate is the least that mode ebpf can take for a change: the kernel's part of it.
	oneUpdate = "one BPF map update"
)

// followGrows is the p50 with topSize Services over that with the fewest.
const followGrows = "event of the watch → kernel programmed, p50 with 10000 services / p50 with 100"

// Names of figures; those with %d are by size.
const (
	change     = "API write → new connection reaches the new back end, %d services"
	syncOne    = "of that, programming the kernel (the daemon's own metric, mean), %d services"
	follow50   = "event of the watch → kernel programmed (the daemon's own metric), p50, %d services"
	follow99   = "event of the watch → kernel programmed (the daemon's own metric), p99, %d services"
	coldWall   = "cold start, program started → last service answers, %d services"
	coldSync   = "of that, programming the kernel (the daemon's own metric), %d services"
	addedVIP   = "connect() to a service, added to a direct one, %d services"
	addedOther = "connect() to an unrelated address, added, %d services"
	emptyHooks = "of that, what the kernel takes for hooks with programs that do nothing, %d services"
	connectIs  = "connect() to a service, %d services"
	memory     = "memory (PSS), %d services"
	busy       = "CPU at 100 endpoint changes a second, %d services"
	lagBehind  = "last of those changes visible after, %d services"
	connsVIP   = "connections a second through a ClusterIP"
	connsPort  = "connections a second from outside through a NodePort"
	flowVIP    = "throughput through a ClusterIP"
	flowPort   = "throughput from outside through a NodePort"
)

func figures() []*result.Figure {
	var out []*result.Figure
	add := func(format string, size int, f result.Figure) {
		f.Name = format
		if size > 0 {
			f.Name = fmt.Sprintf(format, size)
		}
		if f.Quantile == 0 {
			f.Quantile = .5
		}
		out = append(out, &f)
	}
	for _, n := range append(sizes, huge) {
		var changeGoal, syncGoal, followGoal, coldGoal, coldSyncGoal, vip, other, mem map[string]result.Goal
		switch n {
		case topSize:
			fast, same := result.Goal{Limit: 5, Times: 100}, result.Goal{Times: 1}
			changeGoal = map[string]result.Goal{nodeletBPF: fast, nodeletNFT: fast, nodeletIPT: same}
			syncGoal = map[string]result.Goal{"": same}
			followGoal = map[string]result.Goal{nodeletBPF: {Limit: .1}, nodeletNFT: {Limit: .25}}
			coldGoal = map[string]result.Goal{"": same}
			coldSyncGoal = map[string]result.Goal{nodeletBPF: {Limit: .1}, nodeletNFT: {Limit: .25}, nodeletIPT: same}
			vip = map[string]result.Goal{nodeletBPF: {Limit: 1}, nodeletNFT: same, nodeletIPT: same}
			other = map[string]result.Goal{nodeletBPF: {Limit: .5}, nodeletNFT: same, nodeletIPT: same}
			mem = map[string]result.Goal{"": same}
		case huge:
			changeGoal = map[string]result.Goal{"": {Limit: 2}}
			coldGoal = map[string]result.Goal{"": {Limit: 6}}
			mem = map[string]result.Goal{"": {Limit: 400}}
		}
		add(change, n, result.Figure{Unit: "ms", Goals: changeGoal})
		add(syncOne, n, result.Figure{Unit: "ms", Goals: syncGoal})
		add(follow50, n, result.Figure{Unit: "ms", Goals: followGoal, Floors: map[string][]string{nodeletBPF: {oneUpdate}}})
		add(follow99, n, result.Figure{Unit: "ms"})
		add(coldWall, n, result.Figure{Unit: "s", Goals: coldGoal})
		add(coldSync, n, result.Figure{Unit: "s", Goals: coldSyncGoal})
		add(addedVIP, n, result.Figure{Unit: "µs", Goals: vip})
		add(addedOther, n, result.Figure{Unit: "µs", Goals: other})
		add(emptyHooks, n, result.Figure{Unit: "µs"})
		add(connectIs, n, result.Figure{Unit: "µs"})
		add(memory, n, result.Figure{Unit: "MB", Goals: mem})
	}
	flat := result.Goal{Limit: 1.2}
	add(followGrows, 0, result.Figure{Unit: "×", Goals: map[string]result.Goal{nodeletBPF: flat, nodeletNFT: flat}})
	add(busy, topSize, result.Figure{Unit: "% of a core", Goals: map[string]result.Goal{nodeletBPF: {Limit: 5}, nodeletNFT: {Limit: 5}, nodeletIPT: {Times: 1}}})
	add(lagBehind, topSize, result.Figure{Unit: "ms", Goals: map[string]result.Goal{"": {Times: 1}}})
	more := map[string]result.Goal{"": {Times: 1}}
	add(connsVIP, 0, result.Figure{Unit: "1/s", More: true, Goals: more})
	add(connsPort, 0, result.Figure{Unit: "1/s", More: true, Goals: more})
	add(flowVIP, 0, result.Figure{Unit: "Gbit/s", More: true, Goals: more})
	add(flowPort, 0, result.Figure{Unit: "Gbit/s", More: true, Goals: more})
	return out
}

// Area is this package's.
func Area() *area.Area {
	return &area.Area{
		Name: "proxy",
		Contestants: []result.Contestant{
			{Name: nodeletBPF, Role: result.Ours}, {Name: nodeletNFT, Role: result.Ours}, {Name: nodeletIPT, Role: result.Ours},
			{Name: upstreamLegacy, Role: result.Peer}, {Name: upstreamIPT, Role: result.Peer}, {Name: upstreamNFT, Role: result.Peer},
			{Name: direct, Role: result.Floor}, {Name: oneUpdate, Role: result.Floor},
		},
		Figures: figures(),
		Peers:   []string{"kube-proxy"},
		Tools:   []string{"nft", "iptables-legacy-restore", "iptables-nft-restore", "conntrack"},
		Turns:   turns,
		Measure: measure,
		Derive:  derive,
	}
}

// turns alternates peer and nodelet. The smallest size is there to see how nodelet grows. kube-proxy
// on iptables-nft takes most of a minute to start with 10,000 Services, so it has one round of that only.
func turns(o area.Options) []area.Turn {
	everybody := []string{nodeletBPF, upstreamNFT, nodeletNFT, upstreamLegacy, nodeletIPT, upstreamIPT}
	var out []area.Turn
	for round := range o.Runs {
		for _, n := range sizes {
			for _, who := range everybody {
				if o.Quick && n != trafficSize || who == upstreamIPT && n == topSize && round > 0 ||
					n < trafficSize && strings.HasPrefix(who, "kube-proxy") {
					continue
				}
				out = append(out, area.Turn{Who: who, Round: round, Size: n, Quick: o.Quick})
			}
		}
	}
	if !o.Quick {
		out = append(out, area.Turn{Who: nodeletBPF, Size: huge}, area.Turn{Who: nodeletNFT, Size: huge})
	}
	return out
}
