package gather_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"nodelet/explain"
	"nodelet/internal/xtables"
	"nodelet/proxy"
)

// A breakage is one thing that is wrong. packet is what really happens then;
// cause is what the verdict must say.
type breakage struct {
	name     string
	world    string
	config   proxy.Config
	do       func(*bench)
	question string
	probe    string
	packet   string
	state    explain.State
	cause    string
	// within is where the sockets of the node and its pods are made; nil is anywhere.
	within func(func() error) error
	// own: it breaks something that only this back end has.
	own string
}

const (
	service = "service d/x NodePort 10.96.0.1,fd96::1 p:80/TCP[30080] q:53/UDP[30053]\n"
	here    = "slice d/x of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1\n"
	one     = "slice d/x of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1\n"
	away    = "slice d/x of d/x p:8080/TCP q:8080/UDP 10.244.2.2=ready@n2\n"
	toX     = "pod/d/c svc/d/x:80"
	probeX  = "c -> 10.96.0.1:80/TCP"
)

func sh(commands string) func(*bench) { return func(b *bench) { b.t.Helper(); b.sh(commands) } }
func podSh(pod, commands string) func(*bench) {
	return func(b *bench) { b.t.Helper(); b.podSh(pod, commands) }
}

var healthy = []breakage{
	{name: "pod to service", world: service + here, question: toX, probe: probeX},
	{name: "pod to service over udp", world: service + here, question: "pod/d/c svc/d/x:53", probe: "c -> 10.96.0.1:53/UDP"},
	{name: "pod to service by name", world: service + here, question: "d/c x.d.svc.cluster.local:p", probe: probeX},
	{name: "node to service", world: service + here, question: "node -> svc/d/x:p", probe: "node -> 10.96.0.1:80/TCP"},
	{name: "outside to nodeport", world: service + here, question: "192.168.7.9 nodeport:30080", probe: "outside -> 192.168.7.1:30080/TCP"},
	{name: "pod to nodeport", world: service + here, question: "pod/d/c nodeport:30080", probe: "c -> 192.168.7.1:30080/TCP"},
	{name: "pod to itself by service", world: service + one, question: "pod/d/a svc/d/x:80", probe: "a -> 10.96.0.1:80/TCP"},
	{name: "pod to remote endpoint", world: service + away, question: toX, probe: probeX},
	{name: "pod to pod", world: service + here, question: "pod/d/c pod/d/a:8080", probe: "c -> 10.244.1.2:8080/TCP"},
	{name: "pod to pod over IPv6", world: service + here, question: "fd44:1::4 [fd44:1::2]:8080", probe: "c -> [fd44:1::2]:8080/TCP"},
	{name: "pod to outside", world: service + here, question: "pod/d/c 192.168.7.9:8080", do: func(b *bench) { b.Serve(b.Host("outside"), 8080) }, probe: "c -> 192.168.7.9:8080/TCP"},
	{name: "node to pod", world: service + here, question: "node pod/d/a:8080", probe: "node -> 10.244.1.2:8080/TCP"},
	{name: "a process on a node port", world: service + here, question: "192.168.7.9 nodeport:30080", do: func(b *bench) { b.Serve(b.Node, 30080) }, probe: "outside -> 192.168.7.1:30080/TCP"},
	{name: "accepting firewall", world: service + here, do: sh("iptables -A FORWARD -s 10.244.0.0/16 -p tcp --dport 8080 -m comment --comment mine -j ACCEPT; iptables -P FORWARD DROP; iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -A FORWARD -p udp --dport 9 -j DROP"), question: toX, probe: probeX},
}

var meaning = []breakage{
	{name: "endpoint not ready", world: service + "slice d/x of d/x p:8080/TCP 10.244.1.2=not-ready@n1", question: toX, probe: probeX, packet: "refused", cause: "no endpoint of Service d/x can be used: 1 not-ready"},
	{name: "endpoint terminating", world: service + "slice d/x of d/x p:8080/TCP 10.244.1.2=terminating@n1", question: toX, probe: probeX, packet: "refused", cause: "1 terminating"},
	{name: "selector matches nothing", world: service + "slice d/x of d/x p:8080/TCP", question: toX, probe: probeX, packet: "refused", cause: "selector of Service d/x matches no pod"},
	{name: "no slice at all", world: service, question: toX, probe: probeX, packet: "refused", cause: "selector of Service d/x matches no pod"},
	{name: "targetPort name missing", world: service + "slice d/x of d/x q:8080/UDP 10.244.1.2=ready@n1", question: toX, probe: probeX, packet: "refused", cause: "targetPort names a port that no container has"},
	{name: "wrong targetPort", world: service + "slice d/x of d/x p:9999/TCP 10.244.1.2=ready@n1", question: toX, probe: probeX, packet: "refused", cause: "nothing listens on port 9999/TCP of 10.244.1.2, which has sockets on"},
	{name: "wrong port of the address", world: service + here, question: "pod/d/c 10.96.0.1:81", probe: "c -> 10.96.0.1:81/TCP", packet: "refused", cause: "has no port 81/TCP"},
	{name: "wrong port of the service", world: service + here, question: "pod/d/c svc/d/x:81", probe: "c -> 10.96.0.1:81/TCP", packet: "refused", cause: "Service d/x has no port 81: it has 80/TCP (p), 53/UDP (q)"},
	{name: "wrong protocol", world: service + here, question: "pod/d/c svc/d/x:80/udp", probe: "c -> 10.96.0.1:80/UDP", packet: "refused", cause: "has no port 80/UDP"},
	{name: "no such service", world: service + here, question: "pod/d/c svc/e/x:80", cause: "there is no Service e/x; did you mean d/x?"},
	{name: "DNS name wrong", world: service + here, question: "pod/d/c y.d.svc.cluster.local:80", cause: "the DNS name y.d.svc.cluster.local does not exist: there is no Service d/y; did you mean d/x?"},
	{name: "headless", world: "service d/x ClusterIP 10.96.0.1 p:80/TCP headless\n" + here, question: toX, cause: "Service d/x is headless"},
	{name: "ExternalName", world: "service d/x ExternalName 10.96.0.1 p:80/TCP headless\n", question: toX, cause: "is an ExternalName"},
	{name: "another proxy's", world: "service d/x ClusterIP 10.96.0.1 p:80/TCP proxy=theirs\n" + here, question: toX, probe: probeX, packet: "silence", cause: "not served by this proxy: served by theirs"},
	{name: "internal policy Local", world: "service d/x ClusterIP 10.96.0.1 p:80/TCP internal=local\n" + away, question: toX, probe: probeX, packet: "silence", cause: "internalTrafficPolicy of Service d/x is Local and no usable endpoint is on this node: they are on n2"},
	{name: "external policy Local", world: "service d/x NodePort 10.96.0.1 p:80/TCP[30080] external=local\n" + away, question: "192.168.7.9 nodeport:30080", probe: "outside -> 192.168.7.1:30080/TCP", packet: "silence", cause: "externalTrafficPolicy of Service d/x is Local and no usable endpoint is on this node: they are on n2"},
	{name: "source range", world: "service d/x LoadBalancer 10.96.0.1 p:80/TCP[30080] lb=1.2.3.4 ranges=10.0.0.0/8\n" + here, question: "192.168.7.9 1.2.3.4:80", probe: "outside -> 1.2.3.4:80/TCP", packet: "silence", cause: "loadBalancerSourceRanges [10.0.0.0/8] of Service d/x do not contain the source 192.168.7.9"},
	{name: "ipMode Proxy", world: "service d/x LoadBalancer 10.96.0.1 p:80/TCP[30080] lbproxy=1.2.3.4\n" + here, question: "pod/d/c 1.2.3.4:80", probe: "c -> 1.2.3.4:80/TCP", packet: "silence", state: explain.StateUnknown, cause: "ipMode Proxy"},
	{name: "nodePortAddresses", world: service + here, config: proxy.Config{NodePortAddresses: podCIDRs}, question: "192.168.7.9 nodeport:30080", probe: "outside -> 192.168.7.1:30080/TCP", packet: "refused", cause: "192.168.7.1 is outside nodePortAddresses"},
	{name: "node port on loopback", world: service + here, question: "localhost localhost:30080", probe: "node -> 127.0.0.1:30080/TCP", packet: "refused", cause: "node ports do not answer on loopback"},
	{name: "no such node port", world: service + here, question: "192.168.7.9 nodeport:30081", probe: "outside -> 192.168.7.1:30081/TCP", packet: "refused", cause: "no Service has node port 30081/TCP"},
	{name: "port taken by a process", world: service + here, do: func(b *bench) { b.Serve(b.Node, 30081) }, question: "192.168.7.9 nodeport:30081", probe: "outside -> 192.168.7.1:30081/TCP", packet: "answers", cause: "a process of this node listens there"},
	{name: "address of a service that is gone", world: service + here, question: "pod/d/c 10.96.0.77:80", probe: "c -> 10.96.0.77:80/TCP", packet: "silence", cause: "10.96.0.77 is in the range of cluster IPs, and no Service has it"},
	{name: "address of a service that is gone, with ServiceCIDRs", world: "cidr kubernetes 10.96.0.0/16\n" + service + here, question: "pod/d/c 10.96.0.77:80", probe: "c -> 10.96.0.77:80/TCP", packet: "silence", cause: "10.96.0.77 is in the range of cluster IPs, and no Service has it: its packets are dropped"},
	{name: "address of a pod that is gone", world: service + here, question: "pod/d/c 10.244.1.99:80", probe: "c -> 10.244.1.99:80/TCP", packet: "silence", cause: "no pod is known to have it"},
	{name: "unknown pod", world: service + here, question: "pod/d/nobody svc/d/x:80", state: explain.StateUnknown, cause: "there is no pod d/nobody on this node"},
	{name: "nobody listens", world: service + here, do: func(b *bench) { b.stop["a"](); b.stop["b"]() }, question: toX, probe: probeX, packet: "refused", cause: "nothing listens on port 8080/TCP"},
	{name: "wrong port of a pod", world: service + here, question: "pod/d/c pod/d/a:8081", probe: "c -> 10.244.1.2:8081/TCP", packet: "refused", cause: "nothing listens on port 8081/TCP of d/a (10.244.1.2)"},
	{name: "nobody on the node's port", world: service + here, question: "pod/d/c node:22", probe: "c -> 192.168.7.1:22/TCP", packet: "refused", cause: "nothing listens on port 22/TCP of 192.168.7.1"},
}

var rules = []breakage{
	{name: "element deleted", world: service + one, do: sh("nft delete element ip nodelet-proxy endpoints '{ 0 . 10.96.0.1 . tcp . 80 }'"), question: toX, probe: probeX, packet: "refused", cause: "missing: map endpoints of table ip nodelet-proxy: 0 . 10.96.0.1 . 6 . 80 : 10.244.1.2 . 8080"},
	{name: "frontend deleted", world: service + one, do: sh("nft delete element ip nodelet-proxy frontends '{ 10.96.0.1 . tcp . 80 }'"), question: toX, probe: probeX, packet: "refused", cause: "missing: set frontends of table ip nodelet-proxy"},
	{name: "table deleted", world: service + one, do: sh("nft delete table ip nodelet-proxy"), question: toX, probe: probeX, packet: "silence", cause: "missing: table ip nodelet-proxy"},
	{name: "all rules flushed", world: service + one, do: sh("nft flush ruleset"), question: toX, probe: probeX, packet: "silence", cause: "missing: table ip nodelet-proxy"},
	{name: "table flushed", world: service + one, do: sh("nft flush table ip nodelet-proxy"), question: toX, probe: probeX, packet: "silence", cause: "missing: rule"},
	{name: "table asleep", world: service + one, do: sh("nft add table ip nodelet-proxy '{ flags dormant; }'"), question: toX, probe: probeX, packet: "silence", cause: "dormant"},
	{name: "prerouting flushed", world: service + one, do: sh("nft flush chain ip nodelet-proxy nat-prerouting"), question: toX, probe: probeX, packet: "refused", cause: "chain nat-prerouting of table ip nodelet-proxy (packets from pods and from outside are not translated)"},
	{name: "output flushed", world: service + one, do: sh("nft flush chain ip nodelet-proxy nat-output"), question: "node svc/d/x:80", probe: "node -> 10.96.0.1:80/TCP", packet: "refused", cause: "chain nat-output of table ip nodelet-proxy (packets of this node itself are not translated)"},
	{name: "masquerade missing", world: service + one, do: sh("nft flush chain ip nodelet-proxy nat-postrouting"), question: "pod/d/a svc/d/x:80", probe: "a -> 10.96.0.1:80/TCP", packet: "silence", cause: "chain nat-postrouting of table ip nodelet-proxy (packets are not masqueraded"},
	{name: "hairpin element deleted", world: service + one, do: sh("nft delete element ip nodelet-proxy loops '{ 10.244.1.2 . 10.244.1.2 }'"), question: "pod/d/a svc/d/x:80", probe: "a -> 10.96.0.1:80/TCP", packet: "silence", cause: "missing: set loops"},
	{name: "plan flushed", world: service + one, do: sh("nft flush chain ip nodelet-proxy any1-masqother"), question: toX, probe: probeX, packet: "refused", cause: "chain any1-masqother"},
	{name: "drop among our rules", world: service + one, do: sh("nft insert rule ip nodelet-proxy services drop"), question: toX, probe: probeX, packet: "silence", cause: "foreign: rule"},
	{name: "element altered", world: service + one, do: sh("nft delete element ip nodelet-proxy endpoints '{ 0 . 10.96.0.1 . tcp . 80 }'; nft add element ip nodelet-proxy endpoints '{ 0 . 10.96.0.1 . tcp . 80 : 10.244.1.2 . 8081 }'"), question: toX, probe: probeX, packet: "refused", cause: "altered: map endpoints"},
	{name: "source range element deleted", world: "service d/x LoadBalancer 10.96.0.1 p:80/TCP[30080] lb=1.2.3.4 ranges=192.168.7.9/32\n" + one, do: sh("nft flush set ip nodelet-proxy sources"), question: "192.168.7.9 1.2.3.4:80", probe: "outside -> 1.2.3.4:80/TCP", packet: "silence", cause: "missing: set sources"},
}

// firewalls are what others do, whatever the proxy's mode.
var firewalls = []breakage{
	{name: "iptables DROP in FORWARD", world: service + one, do: sh("iptables -A FORWARD -j DROP"), question: toX, probe: probeX, packet: "silence", cause: "dropped by rule with handle"},
	{name: "iptables policy DROP", world: service + one, do: sh("iptables -P FORWARD DROP"), question: toX, probe: probeX, packet: "silence", cause: "policy drop of chain FORWARD of table ip filter"},
	{name: "iptables REJECT of the endpoint", world: service + one, do: sh("iptables -N MINE; iptables -A FORWARD -j MINE; iptables -A MINE -d 10.244.1.2 -p tcp --dport 8080 -j REJECT --reject-with tcp-reset"), question: toX, probe: probeX, packet: "refused", cause: "rejected by rule with handle"},
	{name: "nftables forward policy", world: service + one, do: sh("nft add table inet fw; nft add chain inet fw fwding '{ type filter hook forward priority 0; policy drop; }'"), question: toX, probe: probeX, packet: "silence", cause: "policy drop of chain fwding of table inet fw"},
	{name: "nftables set of bad ports", world: service + one, do: sh("nft add table inet fw; nft add chain inet fw fwding '{ type filter hook forward priority 0; }'; nft add rule inet fw fwding tcp dport '{ 8080, 9000-9100 }' drop"), question: toX, probe: probeX, packet: "silence", cause: "in chain fwding of table inet fw"},
	{name: "drop before translation", world: service + one, do: sh("iptables -t raw -A PREROUTING -d 10.96.0.1 -j DROP"), question: toX, probe: probeX, packet: "silence", cause: "in chain PREROUTING of table ip raw"},
	{name: "drop on the way out", world: service + one, do: sh("iptables -t mangle -A POSTROUTING -o vetha -j DROP"), question: toX, probe: probeX, packet: "silence", cause: "in chain POSTROUTING of table ip mangle"},
	{name: "drop in INPUT", world: "service d/x ClusterIP 10.96.0.1 p:80/TCP\nslice d/x of d/x p:6443/TCP 192.168.7.1=ready", do: func(b *bench) { b.Serve(b.Node, 6443); b.sh("iptables -A INPUT -p tcp --dport 6443 -j DROP") }, question: toX, probe: probeX, packet: "silence", cause: "in chain INPUT of table ip filter"},
	{name: "drop in OUTPUT", world: service + one, do: sh("iptables -A OUTPUT -d 10.244.1.2 -j DROP"), question: "node svc/d/x:80", probe: "node -> 10.96.0.1:80/TCP", packet: "silence", cause: "in chain OUTPUT of table ip filter"},
	{name: "not tracked", world: service + one, do: sh("iptables -t raw -A PREROUTING -d 10.96.0.1 -j CT --notrack"), question: toX, probe: probeX, packet: "silence", cause: "are not translated"},
	{name: "stolen by another DNAT", world: service + one, do: sh("nft add table ip thief; nft add chain ip thief pre '{ type nat hook prerouting priority -101; }'; nft add rule ip thief pre ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.1.3:8081"), question: toX, probe: probeX, packet: "refused", cause: "go to 10.244.1.3:8081, which is no endpoint"},
	{name: "pod masquerade deleted", world: service + one, do: func(b *bench) {
		b.Serve(b.Host("outside"), 8080)
		b.podSh("outside", "ip route del default; ip route add 203.0.113.0/24 via 192.168.7.1")
		b.sh("nft delete table inet nodelet-cni")
	}, question: "pod/d/c 192.168.7.9:8080", probe: "c -> 192.168.7.9:8080/TCP", packet: "silence", cause: "the masquerade rule is missing"},
}

var network = []breakage{
	{name: "ip_forward off", world: service + one, do: sh("sysctl -qw net.ipv4.ip_forward=0"), question: toX, probe: probeX, packet: "silence", cause: "does not forward packets (net.ipv4.ip_forward is 0)"},
	{name: "forwarding of the pod's link off", world: service + one, do: sh("sysctl -qw net.ipv4.conf.vethc.forwarding=0"), question: toX, probe: probeX, packet: "silence", cause: "net.ipv4.conf.vethc.forwarding is 0"},
	{name: "ipv6 forwarding off", world: service + one, do: sh("sysctl -qw net.ipv6.conf.all.forwarding=0"), question: "fd44:1::4 [fd44:1::2]:8080", probe: "c -> [fd44:1::2]:8080/TCP", packet: "silence", cause: "net.ipv6.conf.all.forwarding is 0"},
	{name: "rp_filter", world: service + one, do: sh("sysctl -qw net.ipv4.conf.vethc.rp_filter=1; ip route replace 10.244.1.4/32 via 192.168.7.9"), question: toX, probe: probeX, packet: "silence", cause: "reverse path filter drops packets to 10.244.1.2: rp_filter of vethc is 1"},
	{name: "way back lost", world: service + one, do: sh("sysctl -qw net.ipv4.conf.all.rp_filter=0; sysctl -qw net.ipv4.conf.vethc.rp_filter=0; ip route replace unreachable 10.244.1.4/32; ip route del 10.244.1.4/32 dev vethc || true"), question: toX, probe: probeX, packet: "silence", cause: "for answers of 10.244.1.2"},
	{name: "route to the pod gone", world: service + one, do: sh("ip route del 10.244.1.2/32"), question: toX, probe: probeX, packet: "silence", cause: "the route to 10.244.1.2 leads elsewhere: to eth0, and the pod is on vetha"},
	{name: "no route at all", world: service + one, do: sh("ip route del 10.244.1.2/32; ip route del default"), question: toX, probe: probeX, packet: "error", cause: "this node has no route to 10.244.1.2"},
	{name: "route unreachable", world: service + one, do: sh("ip route replace unreachable 10.244.1.2/32"), question: toX, probe: probeX, packet: "error", cause: "the route to 10.244.1.2 refuses packets: unreachable"},
	{name: "route blackhole", world: service + one, do: sh("ip route replace blackhole 10.244.1.2/32"), question: toX, probe: probeX, packet: "silence", cause: "the route to 10.244.1.2 refuses packets: blackhole"},
	{name: "route to the other node gone", world: service + away, do: sh("ip route del 10.244.2.0/24"), question: toX, probe: probeX, packet: "silence", cause: "by 192.168.7.9, and node n2 is [192.168.8.2"},
	{name: "veth of the endpoint down", world: service + one, do: sh("ip link set vetha down"), question: toX, probe: probeX, packet: "silence", cause: "the link vetha of pod d/a is down"},
	{name: "veth of the client down", world: service + one, do: sh("ip link set vethc down"), question: toX, cause: "the link vethc of pod d/c is down: it sends nothing"},
	{name: "eth0 in the endpoint down", world: service + one, do: podSh("a", "ip link set eth0 down"), question: toX, probe: probeX, packet: "silence", cause: "the link vetha of pod d/a is down"},
	{name: "link of the endpoint gone", world: service + one, do: sh("ip link del vetha"), question: toX, probe: probeX, packet: "silence", cause: "the link of pod d/a is gone"},
	{name: "neighbour wrong", world: service + one, do: sh("ip neigh replace 10.244.1.2 lladdr 02:00:00:00:00:99 dev vetha nud permanent"), question: toX, probe: probeX, packet: "silence", cause: "the neighbour entry for pod d/a on vetha says 02:00:00:00:00:99"},
	{name: "next hop of the client wrong", world: service + one, do: podSh("c", "ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"), question: toX, probe: probeX, packet: "silence", cause: "inside pod d/c: the neighbour entry for the next hop 169.254.1.1 says 02:00:00:00:00:99"},
	{name: "default route of the client gone", world: service + one, do: podSh("c", "ip route del default"), question: toX, probe: probeX, packet: "error", cause: "inside pod d/c: there is no default route"},
	{name: "default route of the endpoint gone", world: service + one, do: podSh("a", "ip route del default"), question: toX, probe: probeX, packet: "silence", cause: "inside pod d/a: there is no default route"},
	{name: "address of the endpoint gone", world: service + one, do: podSh("a", "ip addr del 10.244.1.2/32 dev eth0"), question: toX, probe: probeX, packet: "silence", cause: "inside pod d/a: eth0 lacks the address 10.244.1.2"},
	{name: "uplink down", world: service + away, do: sh("ip link set eth1 down; ip route add 10.244.2.0/24 via 192.168.7.9"), question: toX, probe: probeX, packet: "silence", cause: "by 192.168.7.9"},
	{name: "other node's link down", world: service + away, do: podSh("second", "ip link set eth0 down"), question: toX, probe: probeX, packet: "silence", cause: "the interface eth1 on the way to 10.244.2.2 is down"},
	{name: "other node does not answer", world: service + away, do: func(b *bench) {
		b.podSh("second", "ip addr del 192.168.8.2/24 dev eth0; sysctl -qw net.ipv4.conf.all.arp_ignore=8")
		b.sh("sysctl -qw net.ipv4.neigh.eth1.retrans_time_ms=10; ip neigh flush dev eth1; ping -c1 -W1 192.168.8.2 >/dev/null || true")
	}, question: toX, probe: probeX, packet: "error", cause: "the next hop 192.168.8.2 on eth1 does not answer"},
	{name: "stale udp flow", world: service + one, do: sh("conntrack -I -p udp -s 10.244.1.4 -d 10.96.0.1 --sport 5555 --dport 53 -r 10.244.1.99 -q 10.244.1.4 --reply-port-src 8080 --reply-port-dst 5555 --timeout 300 --status ASSURED,SEEN_REPLY -g 10.244.1.99 >/dev/null 2>&1"), question: "pod/d/c svc/d/x:53", cause: "a tracked UDP flow 10.244.1.4:5555 -> 10.96.0.1:53 is still sent to 10.244.1.99:8080"},
	{name: "affinity to a dead endpoint", own: "nftables", world: "service d/x ClusterIP 10.96.0.1 p:80/TCP affinity=3h\n" + one, do: sh("nft add element ip nodelet-proxy clients-10.96.0.1-tcp-80 '{ 10.244.1.4 timeout 1h : 10.244.1.99 . 8080 }'"), question: toX, probe: probeX, packet: "silence", cause: "go to 10.244.1.99:8080, which is no endpoint"},
}

// TestBreakages breaks one thing at a time, sends a packet, and asks why.
func TestBreakages(t *testing.T) {
	every(t, openNftables, map[string][]breakage{"healthy": healthy, "meaning": meaning, "rules": rules, "firewalls": firewalls, "network": network})
}

// TestBreakagesIptables asks the same of the back end iptables, by both
// variants, and breaks its own rules.
func TestBreakagesIptables(t *testing.T) {
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		if _, err := xtables.OpenBulk(v, false, 0); err != nil {
			t.Logf("%s: %v", v, err)
			continue
		}
		t.Run(string(v), func(t *testing.T) {
			groups := map[string][]breakage{"rules": iptablesRules(v)}
			if v == xtables.Legacy { // the rest does not depend on the variant
				groups["healthy"], groups["meaning"], groups["firewalls"] = healthy, meaning, firewalls
				groups["network"] = slices.DeleteFunc(slices.Clone(network), func(c breakage) bool { return c.own == "nftables" })
			}
			every(t, openIptables(v), groups)
		})
	}
}

func every(t *testing.T, open open, groups map[string][]breakage) {
	for group, cases := range groups {
		for _, c := range cases {
			t.Run(group+"/"+strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) { check(t, open, group, c) })
		}
	}
}

func check(t *testing.T, open open, group string, c breakage) {
	b := newBench(t, open, c)
	b.Sockets(c.within)
	if c.do != nil {
		c.do(b)
	}
	want := explain.StateBroken
	switch {
	case c.state != "":
		want = c.state
	case group == "healthy":
		want, c.packet = explain.StateHealthy, "answers"
	}
	if c.probe != "" {
		if got := b.try(c.probe, c.packet); got != c.packet {
			t.Errorf("the packet %s: %s, not %s", c.probe, got, c.packet)
		}
	}
	a := b.explain(c.question)
	if a.Verdict.State != want || !strings.Contains(a.Verdict.Cause, c.cause) {
		t.Errorf("%s: want %s because %q:\n%s", c.question, want, c.cause, a)
	}
	if t.Failed() {
		fmt.Fprintln(t.Output(), b.Dump())
	}
}
