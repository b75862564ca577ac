package main

import (
	"github.com/spf13/pflag"

	"nodelet/node"
)

// addDNSFlags are those of the DNS server, beside the cluster's domain and DNS address.
func addDNSFlags(fs *pflag.FlagSet, c *node.DNSConfig) {
	addrsVar(fs, &c.Listen, "dns-listen", "more addresses to answer DNS on, e.g. the link-local 169.254.20.10 of a node-local cache")
	fs.StringSliceVar(&c.Upstreams, "upstream", nil, "resolver for outside names, in place of the host's: IP, IP:PORT or tls://IP#NAME")
	fs.StringVar(&c.Corefile, "dns-corefile", c.Corefile, "namespace/name of a ConfigMap with a Corefile, read as CoreDNS's; empty for none")
	fs.StringVar(&c.PodRecords, "dns-pod-records", c.PodRecords, "records of pods' addresses: disabled, insecure (any address) or verified (watches all pods)")
}
