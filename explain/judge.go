package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/model"
	"nodelet/internal/nft/sim"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// Judge asks one thing after the other, in the order in which a packet meets
// them. The first that is broken is the cause: what comes behind it may be so
// because of it.
func Judge(f *Facts) []Finding {
	if f.Problem != nil {
		return []Finding{*f.Problem}
	}
	var out []Finding
	add := func(found ...*Finding) {
		for _, x := range found {
			if x != nil && !slices.Contains(out, *x) {
				out = append(out, *x)
			}
		}
	}
	add(f.meaning(), f.elsewhere())
	add(f.sourceLink())
	add(f.programmed()...)
	add(f.rules()...)
	add(f.remembered()...)
	for i := range f.Paths {
		add(f.path(&f.Paths[i])...)
	}
	add(f.nobodyListens())
	if !f.Complete && len(f.Ways) > 0 {
		add(unknown("the rules of this node leave more ways than can be followed", ""))
	}
	for _, u := range f.Unread {
		add(unknown("could not be read: "+u, ""))
	}
	return out
}

// meaning is what the API's objects say against it.
func (f *Facts) meaning() *Finding {
	v := f.Verdict
	switch {
	case v.Outcome == eval.NoService:
		return f.noService()
	case v.Outcome == eval.DNAT:
		return nil
	case v.Target.Kind == lb.Unassigned:
		return noSuchClusterIP(f.Packet.Dst.Addr(), ": its packets are dropped")
	case v.Target.Kind == lb.AnyPort:
		return broken(fmt.Sprintf("%s is the cluster IP of Service %s, which has no port %d/%s", f.Packet.Dst.Addr(), v.Target.Service, f.Packet.Dst.Port(), f.Packet.Proto),
			"use one of the Service's ports, or add the port to the Service")
	case v.Outcome == eval.Drop && !v.Target.Admits(f.Packet.Src):
		return broken(fmt.Sprintf("loadBalancerSourceRanges %v of Service %s do not contain the source %s", v.Target.Sources, v.Target.Service, f.Packet.Src),
			"add the client's range to spec.loadBalancerSourceRanges")
	case v.Outcome == eval.Drop:
		return f.nobodyHere()
	}
	return f.noEndpoints()
}

// nobodyHere: policy Local, and all endpoints elsewhere.
func (f *Facts) nobodyHere() *Finding {
	policy := "internalTrafficPolicy"
	if f.Verdict.Target.Kind != lb.ClusterIP {
		policy = "externalTrafficPolicy"
	}
	return broken(fmt.Sprintf("%s of Service %s is Local and no usable endpoint is on this node%s", policy, f.Verdict.Target.Service, f.whereAre()),
		"send to a node that has an endpoint, run one here, or set the policy to Cluster")
}

func (f *Facts) whereAre() string {
	nodes := map[string]bool{}
	for _, e := range f.endpoints() {
		if e.State == "ready" && e.Node != "" {
			nodes[e.Node] = true
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	names := make([]string, 0, len(nodes))
	for n := range nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	return ": they are on " + strings.Join(names, ", ")
}

// endpoints are those of the port that the packet is for.
func (f *Facts) endpoints() []lb.EndpointView {
	t := f.Verdict.Target
	for _, v := range f.Views {
		if t.Port != nil && v.ClusterIP == t.ClusterIP && v.Protocol == t.Proto.String() {
			return v.Endpoints
		}
	}
	return nil
}

// noEndpoints finds out why nobody can be used.
func (f *Facts) noEndpoints() *Finding {
	t := f.Verdict.Target
	eps := f.endpoints()
	if len(eps) > 0 {
		states := map[string]int{}
		for _, e := range eps {
			states[e.State]++
		}
		return broken(fmt.Sprintf("no endpoint of Service %s can be used: %s", t.Service, counts(states)),
			fmt.Sprintf("see why the pods are not ready: 'kubectl describe pod %s'", podNames(eps)))
	}
	s := f.SliceFacts(t.Service, t.Port)
	switch {
	case !s.any && s.selectorless:
		return broken(fmt.Sprintf("Service %s has no selector, and nobody has written an EndpointSlice for it", t.Service), "write the EndpointSlice, or give the Service a selector")
	case !s.any || s.addresses == 0:
		return broken(fmt.Sprintf("the selector of Service %s matches no pod that has an address", t.Service),
			"compare 'kubectl get service -o yaml' spec.selector with the labels of the pods")
	case !s.port:
		return broken(fmt.Sprintf("no endpoint of Service %s has a port for its port %q: targetPort names a port that no container has", t.Service, t.Name),
			"correct spec.ports[].targetPort, or name the container's port")
	}
	return broken(fmt.Sprintf("Service %s has no endpoint of the family of %s", t.Service, f.Packet.Dst.Addr()), "see ipFamilies of the Service and the pods' addresses")
}

// sliceFacts is what the EndpointSlices of a Service have.
type sliceFacts struct {
	any, port, selectorless bool
	addresses               int
}

// SliceFacts looks at the slices behind the views.
func (f *Facts) SliceFacts(service model.Key, p *lb.Port) (s sliceFacts) {
	snap := f.Snapshot
	if snap == nil {
		return s
	}
	if m, ok := snap.Services.Get(service); ok {
		s.selectorless = m.Selectorless
	}
	for _, sl := range snap.Slices.All() {
		if sl.Service != service || sl.IPv6 != p.ClusterIP.Addr().Is6() {
			continue
		}
		s.any = true
		s.addresses += len(sl.Endpoints)
		for _, sp := range sl.Ports {
			s.port = s.port || sp.Name == p.Name && sp.Protocol == p.Proto && sp.Port != 0
		}
	}
	return s
}

func counts(states map[string]int) string {
	var parts []string
	for _, s := range []string{"not-ready", "terminating", "serving"} {
		if states[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", states[s], s))
		}
	}
	return strings.Join(parts, ", ")
}

func podNames(eps []lb.EndpointView) string {
	for _, e := range eps {
		if ns, name, ok := strings.Cut(e.Pod, "/"); ok {
			return "-n " + ns + " " + name
		}
	}
	return "NAME"
}

// noService: the packet goes to where it says. Is that what was meant?
func (f *Facts) noService() *Finding {
	dst := f.Packet.Dst
	if f.Service != nil {
		for _, v := range f.Views {
			if v.Skipped != "" {
				return broken(fmt.Sprintf("Service %s is not served by this proxy: %s", f.Service, v.Skipped), "ask whoever serves it, or remove the label")
			}
		}
		if f.Proxied && f.Applied < f.Revision {
			return unknown(fmt.Sprintf("Service %s is not in the kernel yet (revision %d of %d)", f.Service, f.Applied, f.Revision), "ask again in a moment; 'nodelet status' says whether the proxy can write")
		}
	}
	if found := f.noNodePort(dst); found != nil {
		return found
	}
	if ing := f.ingressMode(dst.Addr()); ing != "" {
		return unknown(fmt.Sprintf("%s is a load balancer address of Service %s with ipMode Proxy: packets go to the load balancer, not to the Service", dst.Addr(), ing),
			"ask for the cluster IP instead, or have the load balancer report ipMode VIP")
	}
	if slices.ContainsFunc(f.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(dst.Addr()) }) {
		return noSuchClusterIP(dst.Addr(), "")
	}
	if f.To.Pod == nil && f.State != nil && f.State.IsPod(dst.Addr()) && f.To.Node == "" {
		return broken(fmt.Sprintf("%s is in the range of pod addresses, and no pod is known to have it", dst.Addr()), "the client uses the address of a pod that is gone: use a Service")
	}
	return nil
}

func noSuchClusterIP(a netip.Addr, then string) *Finding {
	return broken(fmt.Sprintf("%s is in the range of cluster IPs, and no Service has it%s", a, then), "the client uses the address of a Service that is gone: let it resolve the name again")
}

// noNodePort: the packet was for a node port that does not answer.
func (f *Facts) noNodePort(dst netip.AddrPort) *Finding {
	any := netip.IPv4Unspecified()
	if dst.Addr().Is6() {
		any = netip.IPv6Unspecified()
	}
	if f.State != nil {
		if t, ok := f.State.Lookup(lb.Frontend{Addr: any, Proto: f.Packet.Proto, Port: dst.Port()}); ok {
			if f.Packet.ToNode && (f.Query.To.Kind == PlaceNodePort || len(f.Listeners) == 0) {
				return broken(fmt.Sprintf("node port %d of Service %s does not answer on %s: %s", dst.Port(), t.Service, dst.Addr(), last(f.Trace)),
					"use another address of the node, or change nodePortAddresses")
			}
		}
	}
	if f.Query.To.Kind != PlaceNodePort {
		return nil
	}
	if len(f.Listeners) > 0 {
		return broken(fmt.Sprintf("no Service has node port %d/%s: a process of this node listens there (%s) and gets the packets", dst.Port(), f.Packet.Proto, f.Listeners[0]),
			"correct the number: 'nodelet services' lists the node ports")
	}
	return broken(fmt.Sprintf("no Service has node port %d/%s", dst.Port(), f.Packet.Proto), "correct the number: 'nodelet services' lists the node ports")
}

func last(said []string) string {
	for i := len(said) - 1; i >= 0; i-- {
		if !strings.Contains(said[i], "frontend of no Service") {
			return said[i]
		}
	}
	return "it has no such frontend"
}

// ingressMode names the Service that has the address with ipMode Proxy.
func (f *Facts) ingressMode(a netip.Addr) string {
	if f.Snapshot == nil {
		return ""
	}
	for k, s := range f.Snapshot.Services.All() {
		for _, in := range s.LoadBalancer {
			if in.IP == a && in.Proxy {
				return k.String()
			}
		}
	}
	return ""
}

// elsewhere: a pod of another node is translated there.
func (f *Facts) elsewhere() *Finding {
	if f.From.Pod == nil || f.From.Here || f.From.Node == "" {
		return nil
	}
	return unknown(fmt.Sprintf("%s is on node %s: its packets are translated there, by that node's rules", f.From.Name, f.From.Node),
		"ask on that node; what is said here of the kernel is this node's")
}

// programmed is how far the kernel is as the proxy wants it.
func (f *Facts) programmed() (out []*Finding) {
	if f.Kernel == nil {
		return nil
	}
	for _, d := range f.Kernel.Differences {
		mend := "nodelet writes it again within 30 s; if it comes back, somebody else changes it"
		if f.Kernel.LastChange != "" {
			mend += " (last change: " + f.Kernel.LastChange + ")"
		}
		out = append(out, broken(fmt.Sprintf("the rules in the kernel are not those of the Service: %s", d), mend))
	}
	if f.Applied < f.Revision && f.Verdict.Outcome != eval.NoService {
		out = append(out, note(fmt.Sprintf("the kernel holds revision %d, the API is at %d", f.Applied, f.Revision), ""))
	}
	return out
}

// rules compares the ways the kernel's rules leave with what must happen.
func (f *Facts) rules() (out []*Finding) {
	for _, w := range f.Ways {
		x := f.way(w)
		if x != nil && len(w.Unknown) > 0 {
			x.Level = Unknown
			x.Cause += fmt.Sprintf(" (if %s, which is not known, says so)", strings.Join(w.Unknown, " and "))
		}
		out = append(out, x)
	}
	return out
}

func (f *Facts) way(w sim.Outcome) *Finding {
	v := f.Verdict
	expected := map[eval.Outcome]sim.End{eval.Reject: sim.Rejected, eval.Drop: sim.Dropped}[v.Outcome]
	switch {
	case w.End != sim.Passed && expected == sim.Passed:
		return broken(fmt.Sprintf("the firewall of this node lets the packet to %s not pass: it is %s by %s", w.Dst, w.End, w.By),
			"change that rule: it is not nodelet's; 'nft list ruleset' and 'iptables-save' show it")
	case v.Outcome == eval.Reject && w.End == sim.Passed && w.Translated:
		return broken(fmt.Sprintf("rules of somebody else send the packet to %s", w.Dst), "find the rule with 'nft list ruleset'")
	case w.End != sim.Passed:
		return nil
	}
	switch v.Outcome {
	case eval.DNAT:
		return f.translated(w)
	case eval.NoService:
		if w.Translated && w.Dst != f.Packet.Dst {
			return note(fmt.Sprintf("the destination becomes %s (a host port, or a rule of somebody else)", w.Dst), "")
		}
		return f.leaves(w)
	}
	return nil
}

// translated: to one of the endpoints, and with the right source.
func (f *Facts) translated(w sim.Outcome) *Finding {
	v := f.Verdict
	at := slices.Index(v.Endpoints, w.Dst)
	share := fmt.Sprintf("%.0f %% of the connections", 100*w.Weight)
	switch {
	case !w.Translated:
		return broken(fmt.Sprintf("%s are not translated: the rules in the kernel do not know %s", share, f.Packet.Dst), "see ACTUAL for what is missing")
	case at < 0:
		return broken(fmt.Sprintf("%s go to %s, which is no endpoint for them", share, w.Dst), "see ACTUAL; a client that was remembered is forgotten when its endpoint leaves")
	case v.Masquerade[at] && !w.Masqueraded:
		return broken(fmt.Sprintf("connections to %s are not masqueraded: answers go past this node and are lost", w.Dst), "see ACTUAL for the rule that is missing")
	case !v.Masquerade[at] && w.Masqueraded:
		return note(fmt.Sprintf("somebody masquerades connections to %s: the endpoint does not see the client's address", w.Dst), "")
	}
	return nil
}

// leaves: what a pod sends out of the cluster must carry the node's address.
func (f *Facts) leaves(w sim.Outcome) *Finding {
	if f.Packet.From != lb.FromPod || w.Masqueraded || !f.Network || f.inside(w.Dst.Addr()) {
		return nil
	}
	return broken(fmt.Sprintf("packets from %s to %s leave with the pod's own address, to which nobody outside has a way back: the masquerade rule is missing", f.From.Name, w.Dst.Addr()),
		"nodelet writes table 'inet nodelet-cni' again within 30 s; if it goes again, somebody deletes it")
}

func (f *Facts) inside(a netip.Addr) bool {
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	return f.State != nil && f.State.IsPod(a) || slices.ContainsFunc(f.ServiceCIDRs, in) || f.To.Node != "" || f.Packet.ToNode
}

// remembered: connections that conntrack sends to where no new one would go.
func (f *Facts) remembered() (out []*Finding) {
	v := f.Verdict
	for _, fl := range f.Flows {
		right := v.Outcome == eval.DNAT && slices.Contains(v.Endpoints, fl.To) || v.Outcome == eval.NoService && fl.To == fl.Dst
		if right || f.Packet.Proto != model.UDP && v.Outcome == eval.DNAT && v.Target.Port != nil {
			continue // a TCP connection to an endpoint that left ends by itself
		}
		mend := fmt.Sprintf("delete it: conntrack -D -p %s --orig-dst %s --dport %d", strings.ToLower(f.Packet.Proto.String()), fl.Dst.Addr(), fl.Dst.Port())
		if fl.Own {
			mend = "close the client's socket, or let it be silent for two minutes"
		}
		out = append(out, broken(fmt.Sprintf("a tracked %s flow %s -> %s is still sent to %s, which is wrong now", f.Packet.Proto, fl.Src, fl.Dst, fl.To), mend))
	}
	return out
}
