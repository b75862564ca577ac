package gather_test

import (
	"strings"

	"nodelet/internal/xtables"
)

// iptablesRules break the rules of the back end iptables, with the programs of its variant.
func iptablesRules(v xtables.Variant) []breakage {
	// IPT runs the variant's program; chain names those chains of ours that begin so.
	program := "iptables-" + string(v)
	sh := func(commands string) func(*bench) {
		list := `chain() { IPT-save -t nat | sed -n "s/^:\(NDP-$1[A-Z0-9]*\) .*/\1/p"; }` + "\n"
		return sh(strings.ReplaceAll(strings.ReplaceAll(list+commands, "IPT-save", program+"-save"), "IPT ", program+" "))
	}
	const lb = "service d/x LoadBalancer 10.96.0.1 p:80/TCP[30080] lb=1.2.3.4 ranges=192.168.7.9/32\n"
	table := program + " table "
	toLB := breakage{question: "192.168.7.9 1.2.3.4:80", probe: "outside -> 1.2.3.4:80/TCP"}
	return []breakage{
		{name: "chain of the address flushed", world: service + one, do: sh("IPT -t nat -F NDP-V-01"), question: toX, probe: probeX, packet: "refused", cause: "altered: " + table + "nat chain NDP-V-01 (this rule is missing"},
		{name: "services flushed", world: service + one, do: sh("IPT -t nat -F NDP-SERVICES"), question: toX, probe: probeX, packet: "refused", cause: "altered: " + table + "nat chain NDP-SERVICES"},
		{name: "nat flushed", world: service + one, do: sh("IPT -t nat -F"), question: toX, probe: probeX, packet: "refused", cause: "missing: " + table + "nat: rule -A PREROUTING"},
		{name: "nat gone", world: service + one, do: sh("IPT -t nat -F; IPT -t nat -X"), question: toX, probe: probeX, packet: "refused", cause: "missing: " + table + "nat: rule -A PREROUTING"},
		{name: "everything gone", world: service + one, do: sh("for t in nat filter; do IPT -t $t -F; IPT -t $t -X; done"), question: toX, probe: probeX, packet: "silence", cause: "missing: " + table + "filter: rule -A INPUT"},
		{name: "prerouting jump deleted", world: service + one, do: sh("IPT -t nat -D PREROUTING 1"), question: toX, probe: probeX, packet: "refused", cause: "missing: " + table + "nat: rule -A PREROUTING"},
		{name: "output jump deleted", world: service + one, do: sh("IPT -t nat -D OUTPUT 1"), question: "node svc/d/x:80", probe: "node -> 10.96.0.1:80/TCP", packet: "refused", cause: "missing: " + table + "nat: rule -A OUTPUT"},
		{name: "masquerade missing", world: service + one, do: sh("IPT -t nat -F NDP-POST"), question: "pod/d/a svc/d/x:80", probe: "a -> 10.96.0.1:80/TCP", packet: "silence", cause: "altered: " + table + "nat chain NDP-POST"},
		{name: "postrouting jump deleted", world: service + one, do: sh("IPT -t nat -D POSTROUTING 1"), question: "pod/d/a svc/d/x:80", probe: "a -> 10.96.0.1:80/TCP", packet: "silence", cause: "missing: " + table + "nat: rule -A POSTROUTING"},
		{name: "hairpin rule deleted", world: service + one, do: sh("for c in $(chain E-); do IPT -t nat -D $c 1; done"), question: "pod/d/a svc/d/x:80", probe: "a -> 10.96.0.1:80/TCP", packet: "silence", cause: "this rule is missing: -s 10.244.1.2/32 -j MARK"},
		{name: "endpoints flushed", world: service + one, do: sh("for c in $(chain C-); do IPT -t nat -F $c; done"), question: toX, probe: probeX, packet: "refused", cause: "altered: " + table + "nat chain NDP-C-"},
		{name: "endpoint altered", world: service + one, do: sh("for c in $(chain E-); do IPT -t nat -R $c 2 -p tcp -j DNAT --to-destination 10.244.1.2:8081; done"), question: toX, probe: probeX, packet: "refused", cause: "altered: " + table + "nat chain NDP-E-"},
		{name: "drop among our rules", world: service + one, do: sh("IPT -I NDP-FIRST -j DROP"), question: toX, probe: probeX, packet: "silence", cause: "this rule is not ours: -j DROP"},
		{name: "source range deleted", world: lb + one, do: sh("for c in $(chain F-); do IPT -t nat -D $c 1; done"), question: toLB.question, probe: toLB.probe, packet: "silence", cause: "altered: " + table + "nat chain NDP-F-"},
		{name: "drop in FORWARD", world: service + one, do: sh("IPT -I FORWARD -j DROP"), question: toX, probe: probeX, packet: "silence", cause: "dropped by rule"},
		{name: "policy DROP", world: service + one, do: sh("IPT -P FORWARD DROP"), question: toX, probe: probeX, packet: "silence", cause: "policy drop of chain FORWARD of table ip filter"},
		{name: "reject of the endpoint", world: service + one, do: sh("IPT -N MINE; IPT -I FORWARD -j MINE; IPT -A MINE -d 10.244.1.0/30 -p tcp -m multiport --dports 22,8000:8090 -j REJECT --reject-with tcp-reset"), question: toX, probe: probeX, packet: "refused", cause: "rejected by rule"},
		{name: "not tracked", world: service + one, do: sh("IPT -t raw -A PREROUTING -d 10.96.0.1 -j CT --notrack"), question: toX, probe: probeX, packet: "silence", cause: "are not translated"},
		{name: "stolen by another DNAT", world: service + one, do: sh("IPT -t nat -I PREROUTING -d 10.96.0.1 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.3:8081"), question: toX, probe: probeX, packet: "refused", cause: "go to 10.244.1.3:8081, which is no endpoint"},
		{name: "accepted before our jump", world: service + one, do: sh("IPT -t nat -I PREROUTING -i vethc -j ACCEPT"), question: toX, probe: probeX, packet: "refused", cause: "rejected by rule"},
		{name: "drop on the way out", world: service + one, do: sh("IPT -t mangle -A POSTROUTING -o veth+ -p tcp --tcp-flags SYN,ACK SYN -j DROP"), question: toX, probe: probeX, packet: "silence", cause: "of table ip mangle"},
	}
}
