package podplan

import (
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/model"
)

// prepared is what drivers of dynamic resources have prepared for the pod; nil: nothing.
func (m *maker) prepared() *model.PodDevices {
	row, _ := m.World.Prepared.Get(m.UID)
	return row
}

// claimsReady: the pod's claims are prepared. The part that has them prepared says itself what keeps them.
func (m *maker) claimsReady() bool { return draplan.Ready(m.obj, m.prepared()) }

// claimsHeld: something may still be prepared for the pod, or nobody knows yet.
func (m *maker) claimsHeld() bool {
	return m.prepared().Held() || m.obj != nil && draplan.Any(m.obj) && !m.World.Prepared.Synced()
}

// addClaims puts the devices of a container's claims into its configuration.
func (m *maker) addClaims(c ctr, config *runtimev1.ContainerConfig) {
	for _, name := range draplan.CDI(m.obj, c.Container, m.prepared()) {
		config.CDIDevices = append(config.CDIDevices, &runtimev1.CDIDevice{Name: name})
	}
}

// addClaimHealth says how the devices of a container's claims are (KEP-4680).
func (m *maker) addClaimHealth(c ctr, s *corev1.ContainerStatus) {
	if c.kind == ordinary {
		s.AllocatedResourcesStatus = append(s.AllocatedResourcesStatus, draplan.Health(m.obj, c.Container, m.prepared())...)
	}
}
