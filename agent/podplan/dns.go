package podplan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// DNS is a resolver configuration.
type DNS struct {
	Servers, Searches, Options []string
}

// Limits of what is written to a pod's resolv.conf: the C libraries' own for
// name servers, Kubernetes' for search paths.
const (
	maxNameservers  = 3
	maxSearchPaths  = 32
	maxSearchLine   = 2048
	maxSearchDomain = 253
)

// ParseResolvConf reads a resolv.conf. Unknown lines are skipped; of several
// search lines the last counts, as in the C libraries.
func ParseResolvConf(text string) DNS {
	var d DNS
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			d.Servers = append(d.Servers, fields[1])
		case "search":
			d.Searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					d.Searches = append(d.Searches, strings.TrimSuffix(s, "."))
				}
			}
		case "options":
			for _, o := range fields[1:] {
				d.Options = setOption(d.Options, o)
			}
		}
	}
	return d
}

// dns is the resolver configuration of the pod by its dnsPolicy and dnsConfig.
func (m *maker) dns() *runtimev1.DNSConfig {
	pod := m.obj
	policy := pod.Spec.DNSPolicy
	switch {
	case policy == corev1.DNSClusterFirstWithHostNet, policy == "":
		policy = corev1.DNSClusterFirst
	case policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork:
		policy = corev1.DNSDefault
	}
	if policy == corev1.DNSClusterFirst && len(m.Settings.ClusterDNS) == 0 {
		m.problem("", "MissingClusterDNS", `no cluster DNS address is configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`)
		policy = corev1.DNSDefault
	}
	var d DNS
	switch policy {
	case corev1.DNSClusterFirst:
		for _, ip := range m.Settings.ClusterDNS {
			d.Servers = append(d.Servers, ip.String())
		}
		if domain := m.Settings.ClusterDomain; domain != "" {
			d.Searches = append(d.Searches, pod.Namespace+".svc."+domain, "svc."+domain, domain)
		}
		d.Searches = append(d.Searches, m.Node.DNS.Searches...)
		d.Options = []string{"ndots:5"}
	case corev1.DNSDefault:
		d.Servers = append(d.Servers, m.Node.DNS.Servers...)
		d.Searches = append(d.Searches, m.Node.DNS.Searches...)
		d.Options = append(d.Options, m.Node.DNS.Options...)
	}
	if c := pod.Spec.DNSConfig; c != nil {
		d.Servers = append(d.Servers, c.Nameservers...)
		d.Searches = append(d.Searches, c.Searches...)
		for _, o := range c.Options {
			text := o.Name
			if o.Value != nil && *o.Value != "" {
				text += ":" + *o.Value
			}
			d.Options = setOption(d.Options, text)
		}
	}
	return m.limitDNS(d)
}

// setOption replaces the option of the same name, or appends it.
func setOption(options []string, o string) []string {
	name, _, _ := strings.Cut(o, ":")
	for i, old := range options {
		if n, _, _ := strings.Cut(old, ":"); n == name {
			options[i] = o
			return options
		}
	}
	return append(options, o)
}

// limitDNS drops duplicates and what is beyond the limits, and says so.
func (m *maker) limitDNS(d DNS) *runtimev1.DNSConfig {
	out := &runtimev1.DNSConfig{Servers: unique(d.Servers), Options: d.Options}
	if len(out.Servers) > maxNameservers {
		out.Servers = out.Servers[:maxNameservers]
		m.problem("", "DNSConfigForming", fmt.Sprintf("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: %s", strings.Join(out.Servers, " ")))
	}
	length := 0
	all := unique(d.Searches)
	for _, s := range all {
		if len(s) > maxSearchDomain {
			continue
		}
		if len(out.Searches) == maxSearchPaths || length+len(s) > maxSearchLine {
			break
		}
		length += len(s) + 1
		out.Searches = append(out.Searches, s)
	}
	if len(out.Searches) < len(all) {
		m.problem("", "DNSConfigForming", fmt.Sprintf("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: %s", strings.Join(out.Searches, " ")))
	}
	return out
}

func unique(in []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range in {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
