package node

import (
	"strings"

	"nodelet/internal/metrics"
	"nodelet/proxy"
)

// serviceCounts gives what went through Services whose name contains the filter.
func (n *Node) serviceCounts(filter string) ([]proxy.ServiceCount, error) {
	if n.proxy == nil {
		return nil, errWithoutProxy
	}
	all, err := n.proxy.Counts()
	out := []proxy.ServiceCount{}
	for _, c := range all {
		if strings.Contains(c.Name, filter) {
			out = append(out, c)
		}
	}
	return out, err
}

// serviceTraffic is the same for metrics; nothing in a mode that does not count.
func (n *Node) serviceTraffic() []metrics.ServiceTraffic {
	all, err := n.proxy.Counts()
	if err != nil {
		return nil
	}
	out := make([]metrics.ServiceTraffic, len(all))
	for i, c := range all {
		out[i] = metrics.ServiceTraffic{
			Namespace: c.Service.Namespace, Service: c.Service.Name, Port: c.Port, Protocol: c.Protocol,
			Connections: c.Connections, Packets: c.Packets, Bytes: c.Bytes,
		}
	}
	return out
}
