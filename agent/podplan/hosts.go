package podplan

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	// maxHostname is the limit of a DNS label, maxKernelHostname that of sethostname(2).
	maxHostname       = 63
	maxKernelHostname = 64
)

// hostname is the pod's host name and its domain, which is empty without a subdomain.
func (m *maker) hostname() (name, domain string) {
	spec := &m.obj.Spec
	if spec.HostnameOverride != nil && *spec.HostnameOverride != "" {
		return *spec.HostnameOverride, ""
	}
	name = m.obj.Name
	if spec.Hostname != "" {
		name = spec.Hostname
	}
	if len(name) > maxHostname {
		name = strings.TrimRight(name[:maxHostname], "-.")
	}
	if spec.Subdomain != "" {
		domain = spec.Subdomain + "." + m.obj.Namespace + ".svc." + m.Settings.ClusterDomain
	}
	return name, domain
}

// kernelHostname is what `hostname` prints in the pod.
func (m *maker) kernelHostname() (string, error) {
	name, domain := m.hostname()
	if fq := m.obj.Spec.SetHostnameAsFQDN; fq == nil || !*fq || domain == "" {
		return name, nil
	}
	fqdn := name + "." + domain
	if len(fqdn) > maxKernelHostname {
		return "", &configError{fmt.Sprintf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", fqdn, maxKernelHostname, len(fqdn))}
	}
	return fqdn, nil
}

// hosts is the content of the managed /etc/hosts of a pod with a network of its own.
func (m *maker) hosts(ips []netip.Addr) string {
	name, domain := m.hostname()
	var b strings.Builder
	b.WriteString("# Kubernetes-managed hosts file.\n")
	b.WriteString("127.0.0.1\tlocalhost\n")
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
	b.WriteString("fe00::0\tip6-localnet\n")
	b.WriteString("fe00::0\tip6-mcastprefix\n")
	b.WriteString("fe00::1\tip6-allnodes\n")
	b.WriteString("fe00::2\tip6-allrouters\n")
	for _, ip := range ips {
		if domain == "" {
			fmt.Fprintf(&b, "%s\t%s\n", ip, name)
		} else {
			fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, name, domain, name)
		}
	}
	b.WriteString(hostAliases(m.obj))
	return b.String()
}

func hostAliases(pod *corev1.Pod) string {
	if len(pod.Spec.HostAliases) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, a := range pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.String()
}
