package main

import (
	"strings"

	"github.com/spf13/pflag"

	"nodelet/node"
	"nodelet/proxy"
	"nodelet/proxy/lb"
)

// addProxyFlags adds those of the service proxy, named as kube-proxy's.
func addProxyFlags(fs *pflag.FlagSet, c *node.Config) {
	o := &c.ProxyOptions
	fs.StringVar(&c.ProxyMode, "proxy-mode", c.ProxyMode, "how Services are put into the kernel: "+strings.Join(proxy.Modes(), ", "))
	fs.StringSliceVar(&o.NodePortAddresses, "nodeport-addresses", nil, "ranges of the node's addresses that serve node ports; primary is --node-ip, all is all but loopback, localhost needs --iptables-localhost-nodeports (default: all)")
	prefixesVar(fs, &o.ExternalIPRanges, "proxy-external-ip-ranges", "ranges that spec.externalIPs of Services must be in to be served, on every node the same; load balancer IPs are not limited by it (default: no limit)")
	fs.BoolVar(&o.MasqueradeAll, "masquerade-all", o.MasqueradeAll, "masquerade all traffic to cluster IPs")
	fs.StringVar(&o.DetectLocalMode, "detect-local-mode", lb.ByClusterCIDR.String(), "how traffic of local pods is told, which is not masqueraded and knows no external traffic policy: "+strings.Join(lb.LocalModes(), ", "))
	fs.StringVar(&o.PodBridgeInterface, "pod-bridge-interface", "", "the bridge that local pods' traffic comes in by, with --detect-local-mode=BridgeInterface")
	fs.StringVar(&o.PodInterfaceNamePrefix, "pod-interface-name-prefix", "", "what the names of local pods' interfaces begin with, with --detect-local-mode=InterfaceNamePrefix")
	fs.IntVar(&o.MasqueradeBit, "iptables-masquerade-bit", o.MasqueradeBit, "bit of the packet mark that marks packets to be masqueraded")
	fs.BoolVar(&o.LocalhostNodePorts, "iptables-localhost-nodeports", o.LocalhostNodePorts, "serve IPv4 node ports on 127.0.0.1 too, in every mode that can; sets the sysctl route_localnet")
	fs.StringVar(&o.IPVS.Scheduler, "ipvs-scheduler", "", "how mode ipvs chooses endpoints: rr, lc, sh, mh and what else the kernel has (default: rr)")
	fs.BoolVar(&o.IPVS.StrictARP, "ipvs-strict-arp", false, "in mode ipvs, answer ARP only for addresses of the link that was asked; load balancers in the same network need it")
	fs.DurationVar(&o.IPVS.Timeouts.TCP, "ipvs-tcp-timeout", 0, "how long IPVS remembers an idle TCP connection (0: leave it)")
	fs.DurationVar(&o.IPVS.Timeouts.TCPFin, "ipvs-tcpfin-timeout", 0, "how long IPVS remembers a TCP connection that one side has closed (0: leave it)")
	fs.DurationVar(&o.IPVS.Timeouts.UDP, "ipvs-udp-timeout", 0, "how long IPVS remembers a UDP flow (0: leave it)")
	fs.StringVar(&o.Algorithm, "proxy-bpf-algorithm", o.Algorithm, "in mode ebpf, how what comes by a device gets its endpoint: random, or maglev, by which all nodes send a client's connection to the same endpoint; the annotation nodelet.dev/load-balancing-algorithm of a Service goes before it")
	fs.IntVar(&o.MaglevSize, "proxy-bpf-maglev-table-size", o.MaglevSize, "length of Maglev tables, a prime: a hundred times as many as a Service has endpoints, the same on all nodes")
	fs.StringToIntVar(&o.EBPF.MapSizes, "proxy-bpf-map-size", nil, "in mode ebpf, how many elements maps have room for: slots=2097152,flows=524288 (see docs/proxy-ebpf.md for the maps and their defaults)")
	fs.StringSliceVar(&o.EBPF.XDP, "proxy-bpf-xdp", nil, "in mode ebpf, the links where packets of known connections to node ports, load balancer IPs and external IPs, and their answers, are forwarded by XDP when they leave by such a link again; auto is every hardware link and bond that has an address of the node (default: none)")
	fs.StringVar(&o.EBPF.Cgroup, "proxy-cgroup", "", "in mode ebpf, the directory in the cgroup2 tree whose processes' sockets are balanced, with all below it (default: the root of the tree)")
	fs.IntVar(&o.ServiceMetrics, "proxy-service-metrics", 0, "in mode ebpf, how many Service ports have metrics of connections, packets and bytes at most, in order of their names; each has 3 series (0: none; see nodelet proxy counters)")
	fs.BoolVar(&o.Profiling, "profiling", o.Profiling, "serve profiles of the daemon below /debug/pprof at --metrics-address")
	ct := &o.Conntrack
	fs.IntVar(&ct.MaxPerCore, "conntrack-max-per-core", ct.MaxPerCore, "least size of the connection tracking table per CPU; it is never made smaller (0: leave it)")
	fs.IntVar(&ct.Min, "conntrack-min", ct.Min, "least size of the connection tracking table")
	fs.DurationVar(&ct.TCPEstablished, "conntrack-tcp-timeout-established", ct.TCPEstablished, "how long an idle TCP connection is remembered (0: leave it)")
	fs.DurationVar(&ct.TCPCloseWait, "conntrack-tcp-timeout-close-wait", ct.TCPCloseWait, "how long a TCP connection in CLOSE_WAIT is remembered (0: leave it)")
	fs.BoolVar(&ct.TCPBeLiberal, "conntrack-tcp-be-liberal", ct.TCPBeLiberal, "take TCP packets outside of the window for valid")
	fs.DurationVar(&ct.UDP, "conntrack-udp-timeout", ct.UDP, "how long a UDP flow without answers is remembered (0: leave it)")
	fs.DurationVar(&ct.UDPStream, "conntrack-udp-timeout-stream", ct.UDPStream, "how long a UDP flow with answers is remembered (0: leave it)")
}
