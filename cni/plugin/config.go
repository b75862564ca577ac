package plugin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"nodelet/cni/ipam"
	"nodelet/cni/linkplan"
)

// Type is the plugin's name in network configurations and its file name.
const Type = "nodelet-cni"

// loopbackType makes the binary stand in for the plugin of that name, which
// container runtimes before containerd 2 call for every sandbox.
const loopbackType = "loopback"

// Config is the plugin's part of a network configuration list. The daemon
// writes it; runtimeConfig and prevResult come from the runtime.
type Config struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	Name       string `json:"name,omitempty"`
	Type       string `json:"type"`
	// Capabilities that the runtime may use.
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	// Subnets are the node's ranges of pod addresses, at most one per family.
	Subnets []netip.Prefix `json:"subnets"`
	// NodeIPs are the host's addresses towards its pods.
	NodeIPs []netip.Addr `json:"nodeIPs,omitempty"`
	MTU     int          `json:"mtu"`
	// StateDir is where attachments are recorded.
	StateDir string `json:"stateDir"`
	// Inside are the destinations that pods reach with their own address.
	Inside []netip.Prefix `json:"inside,omitempty"`

	RuntimeConfig *RuntimeConfig  `json:"runtimeConfig,omitempty"`
	PrevResult    json.RawMessage `json:"prevResult,omitempty"`
	// Valid is what GC may keep.
	Valid []types.GCAttachment `json:"cni.dev/valid-attachments,omitempty"`
}

// RuntimeConfig holds the capability arguments.
type RuntimeConfig struct {
	PortMappings []PortMapping `json:"portMappings,omitempty"`
	Bandwidth    *Bandwidth    `json:"bandwidth,omitempty"`
}

// Bandwidth is the capability of that name, in bits a second and bits: what
// the pod's annotations kubernetes.io/ingress-bandwidth and egress-bandwidth say.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// PortMapping is one entry of the capability portMappings.
type PortMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// parseConfig reads what every verb needs: the place of the state.
func parseConfig(stdin []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(stdin, &c); err != nil {
		return c, types.NewError(types.ErrDecodingFailure, "read network configuration: "+err.Error(), "")
	}
	if c.Type != loopbackType && !strings.HasPrefix(c.StateDir, "/") {
		return c, c.invalid("stateDir %q is not an absolute path", c.StateDir)
	}
	return c, nil
}

// usable says what is missing for an ADD.
func (c Config) usable() error {
	if len(c.Subnets) == 0 {
		return c.invalid("subnets is empty: the node has no pod CIDR yet")
	}
	if len(c.Subnets) > 2 || len(c.Subnets) == 2 && c.Subnets[0].Addr().Is4() == c.Subnets[1].Addr().Is4() {
		return c.invalid("subnets %v: at most one per family", c.Subnets)
	}
	for _, s := range c.Subnets {
		if !s.IsValid() {
			return c.invalid("subnets holds an empty prefix")
		}
	}
	return nil
}

func (c Config) invalid(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, "network configuration "+c.Name+": "+fmt.Sprintf(format, args...),
		"the nodelet daemon writes this file: see whether it runs")
}

// ports reads the port mappings; those without a host port mean nothing.
func (c Config) ports() ([]ipam.Port, error) {
	if c.RuntimeConfig == nil {
		return nil, nil
	}
	var out []ipam.Port
	for _, m := range c.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		p, err := m.port()
		if err != nil {
			return nil, types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
		}
		out = append(out, p)
	}
	return out, nil
}

// bandwidth reads the limits; a burst without a rate means nothing.
func (c Config) bandwidth() (out linkplan.Bandwidth) {
	if c.RuntimeConfig == nil || c.RuntimeConfig.Bandwidth == nil {
		return out
	}
	b := c.RuntimeConfig.Bandwidth
	if b.IngressRate > 0 {
		out.Ingress = linkplan.Limit{Rate: b.IngressRate, Burst: b.IngressBurst}
	}
	if b.EgressRate > 0 {
		out.Egress = linkplan.Limit{Rate: b.EgressRate, Burst: b.EgressBurst}
	}
	return out
}

func (m PortMapping) port() (ipam.Port, error) {
	p := ipam.Port{Proto: strings.ToLower(m.Protocol)}
	if p.Proto == "" {
		p.Proto = "tcp"
	}
	if p.Proto != "tcp" && p.Proto != "udp" && p.Proto != "sctp" {
		return p, fmt.Errorf("host port %d: protocol %q is not tcp, udp or sctp", m.HostPort, m.Protocol)
	}
	if m.HostPort < 1 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
		return p, fmt.Errorf("host port %d to %d: ports are 1 to 65535", m.HostPort, m.ContainerPort)
	}
	p.HostPort, p.PodPort = uint16(m.HostPort), uint16(m.ContainerPort)
	if m.HostIP == "" {
		return p, nil
	}
	ip, err := netip.ParseAddr(m.HostIP)
	if err != nil {
		return p, fmt.Errorf("host port %d: host address %q is not an IP address", m.HostPort, m.HostIP)
	}
	if ip = ip.Unmap().WithZone(""); !ip.IsUnspecified() {
		p.HostIP = ip
	}
	return p, nil
}

// podArgs reads what Kubernetes runtimes say of the pod in CNI_ARGS.
func podArgs(args string) (pod, uid string) {
	values := map[string]string{}
	for pair := range strings.SplitSeq(args, ";") {
		k, v, _ := strings.Cut(pair, "=")
		values[k] = v
	}
	if name := values["K8S_POD_NAME"]; name != "" {
		pod = values["K8S_POD_NAMESPACE"] + "/" + name
	}
	return pod, values["K8S_POD_UID"]
}
