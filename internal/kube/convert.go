package kube

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"nodelet/internal/model"
)

func (n *names) service(o any) (model.Key, *model.Service, bool) {
	s, ok := o.(*corev1.Service)
	if !ok {
		return model.Key{}, nil, false
	}
	out := &model.Service{
		Key:                 model.Key{Namespace: n.one(s.Namespace), Name: s.Name},
		ResourceVersion:     s.ResourceVersion,
		Type:                serviceType(s.Spec.Type),
		ExternalName:        s.Spec.ExternalName,
		ExternalIPs:         addrs(s.Spec.ExternalIPs),
		InternalLocal:       s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal:       s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		HealthCheckNodePort: port(s.Spec.HealthCheckNodePort),
		PublishNotReady:     s.Spec.PublishNotReadyAddresses,
		Algorithm:           s.Annotations[model.AlgorithmAnnotation],
		ProxyName:           s.Labels["service.kubernetes.io/service-proxy-name"],
		Selectorless:        len(s.Spec.Selector) == 0,
	}
	clusterIPs := s.Spec.ClusterIPs
	if len(clusterIPs) == 0 && s.Spec.ClusterIP != "" {
		clusterIPs = []string{s.Spec.ClusterIP}
	}
	_, out.HeadlessLabel = s.Labels[corev1.IsHeadlessService]
	if len(clusterIPs) > 0 && clusterIPs[0] == corev1.ClusterIPNone {
		out.Headless = true
	} else {
		out.ClusterIPs = addrs(clusterIPs)
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.AffinityTimeout = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			out.AffinityTimeout = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		out.TrafficDistribution = *d
	}
	out.SourceRanges = sourceRanges(s.Spec.LoadBalancerSourceRanges)
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			proxy := in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy
			out.LoadBalancer = append(out.LoadBalancer, model.LoadBalancerIngress{IP: a.Unmap(), Proxy: proxy})
		}
	}
	out.Ports = n.servicePorts(s.Spec.Ports)
	return out.Key, out, true
}

// sourceRanges reads spec.loadBalancerSourceRanges. The API server lets blanks
// around them pass. One that cannot be read becomes one that no packet comes
// from: it must not open the Service to everyone.
func sourceRanges(texts []string) (out []netip.Prefix) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			out = append(out, netip.PrefixFrom(netip.IPv4Unspecified(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128))
			continue
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out
}

func (n *names) servicePorts(ports []corev1.ServicePort) []model.ServicePort {
	out := make([]model.ServicePort, 0, len(ports))
	for _, p := range ports {
		sp := model.ServicePort{Name: n.one(p.Name), Protocol: protocol(p.Protocol), Port: port(p.Port), NodePort: port(p.NodePort)}
		if p.AppProtocol != nil {
			sp.AppProtocol = *p.AppProtocol
		}
		if sp.Protocol != 0 && sp.Port != 0 {
			out = append(out, sp)
		}
	}
	return out
}

// sliceFrom is slice, with when the object came.
func (n *names) sliceFrom(came *time.Time) func(any) (model.Key, *model.Slice, bool) {
	return func(o any) (model.Key, *model.Slice, bool) {
		k, out, keep := n.slice(o)
		if keep {
			out.Arrived = *came
		}
		return k, out, keep
	}
}

// slice drops FQDN slices: nothing can be proxied to a name.
func (n *names) slice(o any) (model.Key, *model.Slice, bool) {
	s, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return model.Key{}, nil, false
	}
	namespace := n.one(s.Namespace)
	out := &model.Slice{
		Key:             model.Key{Namespace: namespace, Name: s.Name},
		ResourceVersion: s.ResourceVersion,
		Service:         model.Key{Namespace: namespace, Name: s.Labels[discoveryv1.LabelServiceName]},
		IPv6:            s.AddressType == discoveryv1.AddressTypeIPv6,
	}
	out.Triggered = triggered(s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	for _, p := range s.Ports {
		sp := model.SlicePort{Protocol: model.TCP}
		if p.Name != nil {
			sp.Name = n.one(*p.Name)
		}
		if p.Protocol != nil {
			sp.Protocol = protocol(*p.Protocol)
		}
		if p.Port != nil {
			sp.Port = port(*p.Port)
		}
		out.Ports = append(out.Ports, sp)
	}
	if many := len(s.Endpoints); many > 0 {
		out.Endpoints = make([]model.Endpoint, 0, many) // most of what a large cluster costs: no spare room
	}
	for i := range s.Endpoints {
		if e, ok := n.endpoint(&s.Endpoints[i], out.IPv6); ok {
			out.Endpoints = append(out.Endpoints, e)
		}
	}
	return out.Key, out, s.AddressType != discoveryv1.AddressTypeFQDN
}

func (n *names) endpoint(e *discoveryv1.Endpoint, ipv6 bool) (model.Endpoint, bool) {
	if len(e.Addresses) == 0 {
		return model.Endpoint{}, false
	}
	a, ok := endpointAddr(e.Addresses[0], ipv6)
	if !ok {
		return model.Endpoint{}, false
	}
	out := model.Endpoint{Addr: a}
	out.Ready, out.Serving, out.Terminating = conditions(e.Conditions.Ready, e.Conditions.Serving, e.Conditions.Terminating)
	out.Hostname, out.NodeName, out.Zone = deref(e.Hostname), n.one(deref(e.NodeName)), n.one(deref(e.Zone))
	if t := e.TargetRef; t != nil && t.Kind == "Pod" {
		out.Pod = model.Key{Namespace: n.one(t.Namespace), Name: t.Name}
	}
	if e.Hints != nil {
		var zones, nodes []string
		for _, z := range e.Hints.ForZones {
			zones = append(zones, n.one(z.Name))
		}
		for _, node := range e.Hints.ForNodes {
			nodes = append(nodes, n.one(node.Name))
		}
		out.Hints = model.NewHints(zones, nodes)
	}
	return out, true
}

// endpointAddr refuses addresses that no endpoint can have: of the other family,
// loopback, link-local, multicast or unspecified. The API server refuses them
// too, but an endpoint is where packets are sent, so it is not taken on trust
// (CVE-2021-25737).
func endpointAddr(text string, ipv6 bool) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a, err == nil && a.Is6() == ipv6 && !a.Is4In6() && a.IsGlobalUnicast()
}

// conditions are resolved to the API's defaults.
func conditions(isReady, isServing, isTerminating *bool) (ready, serving, terminating bool) {
	ready = isReady == nil || *isReady
	serving = ready
	if isServing != nil {
		serving = *isServing
	}
	return ready, serving, isTerminating != nil && *isTerminating
}

func nodeOf(o any) (model.Key, *model.Node, bool) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return model.Key{}, nil, false
	}
	out := &model.Node{
		Name: n.Name, UID: model.UID(n.UID), ResourceVersion: n.ResourceVersion, Labels: n.Labels, Taints: n.Spec.Taints,
		Deleting: n.DeletionTimestamp != nil,
	}
	for _, a := range n.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			continue
		}
		switch a.Type {
		case corev1.NodeInternalIP:
			out.InternalIPs = append(out.InternalIPs, ip.Unmap())
		case corev1.NodeExternalIP:
			out.ExternalIPs = append(out.ExternalIPs, ip.Unmap())
		}
	}
	cidrs := n.Spec.PodCIDRs
	if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
		cidrs = []string{n.Spec.PodCIDR}
	}
	for _, c := range cidrs {
		if p, err := netip.ParsePrefix(c); err == nil {
			out.PodCIDRs = append(out.PodCIDRs, p.Masked())
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	for _, t := range n.Spec.Taints {
		out.Deleting = out.Deleting || t.Key == "ToBeDeletedByClusterAutoscaler"
	}
	return nodeKey(n.Name), out, true
}

// configOf converts a ConfigMap or a Secret.
func configOf(o any) (model.ConfigKey, *model.Config, bool) {
	switch c := o.(type) {
	case *corev1.ConfigMap:
		key := model.ConfigKey{Kind: model.ConfigMap, Key: model.Key{Namespace: c.Namespace, Name: c.Name}}
		data := make(map[string][]byte, len(c.Data)+len(c.BinaryData))
		for k, v := range c.Data {
			data[k] = []byte(v)
		}
		for k, v := range c.BinaryData {
			data[k] = v
		}
		return key, &model.Config{ConfigKey: key, ResourceVersion: c.ResourceVersion, Immutable: c.Immutable != nil && *c.Immutable, Data: data}, true
	case *corev1.Secret:
		key := model.ConfigKey{Kind: model.Secret, Key: model.Key{Namespace: c.Namespace, Name: c.Name}}
		return key, &model.Config{ConfigKey: key, ResourceVersion: c.ResourceVersion, Immutable: c.Immutable != nil && *c.Immutable, SecretType: string(c.Type), Data: c.Data}, true
	}
	return model.ConfigKey{}, nil, false
}

func serviceType(t corev1.ServiceType) model.ServiceType {
	switch t {
	case corev1.ServiceTypeNodePort:
		return model.NodePort
	case corev1.ServiceTypeLoadBalancer:
		return model.LoadBalancer
	case corev1.ServiceTypeExternalName:
		return model.ExternalName
	}
	return model.ClusterIP
}

// protocol gives 0 for a protocol that is not known.
func protocol(p corev1.Protocol) model.Protocol {
	switch p {
	case corev1.ProtocolTCP, "":
		return model.TCP
	case corev1.ProtocolUDP:
		return model.UDP
	case corev1.ProtocolSCTP:
		return model.SCTP
	}
	return 0
}

// port gives 0 for a number that is no port.
func port(p int32) uint16 {
	if p < 0 || p > 65535 {
		return 0
	}
	return uint16(p)
}

func addrs(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
