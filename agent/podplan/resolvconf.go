package podplan

import corev1 "k8s.io/api/core/v1"

// ResolvConf is the resolver configuration that the pod gets, for those who
// explain its lookups. host is that of the machine.
func ResolvConf(pod *corev1.Pod, s *Settings, host DNS) DNS {
	m := &maker{Facts: Facts{Settings: s, Node: Node{DNS: host}}, obj: pod, waits: map[string]waiting{}}
	c := m.dns()
	return DNS{Servers: c.Servers, Searches: c.Searches, Options: c.Options}
}
