package podplan

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/podref"
)

// fieldRef gives the field of the pod that a variable names: those of the
// downward API, and a few that only variables can name.
func (m *maker) fieldRef(ref *corev1.ObjectFieldSelector) (string, error) {
	switch ref.FieldPath {
	case "status.hostIP", "status.hostIPs":
		if len(m.Node.IPs) == 0 {
			return "", &notYet{"the node's address"}
		}
		return joinIPs(m.Node.IPs, ref.FieldPath == "status.hostIPs"), nil
	case "status.podIP", "status.podIPs":
		ips, _ := m.podIPs()
		return joinIPs(ips, ref.FieldPath == "status.podIPs"), nil
	case "spec.nodeName":
		return m.obj.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return m.obj.Spec.ServiceAccountName, nil
	}
	value, err := podref.Field(m.obj, ref.FieldPath)
	return value, refError(err)
}

func joinIPs(ips []netip.Addr, all bool) string {
	if len(ips) == 0 {
		return ""
	}
	if !all {
		return ips[0].String()
	}
	texts := make([]string, len(ips))
	for i, ip := range ips {
		texts[i] = ip.String()
	}
	return strings.Join(texts, ",")
}

func (m *maker) resourceFieldRef(c ctr, ref *corev1.ResourceFieldSelector) (string, error) {
	value, err := podref.Resource(m.obj, c.Name, ref, m.Node.Allocatable)
	return value, refError(err)
}

// refError marks an error of a reference as one in what the user wrote.
func refError(err error) error {
	if err == nil {
		return nil
	}
	return &configError{err.Error()}
}
