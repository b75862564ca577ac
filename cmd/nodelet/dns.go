package main

import (
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodelet/internal/control"
	"nodelet/node"
)

// addDNSFlags are those of the DNS server, beside the cluster's domain and DNS address.
func addDNSFlags(fs *pflag.FlagSet, c *node.DNSConfig) {
	addrsVar(fs, &c.Listen, "dns-listen", "more addresses to answer DNS on, e.g. the link-local 169.254.20.10 of a node-local cache")
	fs.StringSliceVar(&c.Upstreams, "upstream", nil, "resolver for outside names, in place of the host's: IP, IP:PORT or tls://IP#NAME")
	fs.StringVar(&c.Corefile, "dns-corefile", c.Corefile, "namespace/name of a ConfigMap with a Corefile, read as CoreDNS's; empty for none")
	fs.Uint64Var(&c.LogEvery, "dns-log-every", 0, "log one of so many DNS queries (0: none, 1: all)")
	fs.BoolVar(&c.XDP, "dns-xdp", false, "answer pods' questions for names of the cluster in the kernel, by XDP on their veth devices (Linux 5.18); what that costs their other traffic is in docs/dns.md")
	fs.StringVar(&c.PodRecords, "dns-pod-records", c.PodRecords, "records of pods' addresses: disabled, insecure (any address) or verified (watches all pods)")
}

func dnsCommand() *cobra.Command {
	var qtype string
	why := reader[control.DNSAnswer]{
		use: "why [NAMESPACE/POD] NAME", short: "Explain what a pod of this node is answered for a name: each name of its search path, and where the answer comes from",
		args: cobra.RangeArgs(1, 2),
		resource: func(args []string) string {
			v := url.Values{"name": {args[len(args)-1]}, "type": {qtype}}
			if len(args) == 2 {
				v.Set("pod", args[0])
			}
			return "dns/why?" + v.Encode()
		},
		print: printWhy,
	}.command()
	why.Flags().StringVarP(&qtype, "type", "t", "A", "record type")
	return group("dns", "Look into the cluster DNS of this node", why)
}

func printWhy(w io.Writer, a control.DNSAnswer) {
	fmt.Fprintf(w, "%s %s: zone at revision %d", a.Type, a.Asked, a.Revision)
	if a.Routed > 0 {
		fmt.Fprintf(w, ", routed at %d", a.Routed)
	}
	fmt.Fprintf(w, ", configuration %s\n", a.Config)
	for i, s := range a.Steps {
		fmt.Fprintf(w, "%d. %s -> %s in %s, from %s\n", i+1, s.Name, s.Rcode, s.Took, s.From)
		for _, r := range s.Records {
			fmt.Fprintf(w, "   %s\n", r)
		}
		for _, o := range s.Objects {
			fmt.Fprintf(w, "   of %s\n", o)
		}
	}
}
