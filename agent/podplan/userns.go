package podplan

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ownUsers: the pod asks for a user namespace of its own (KEP-127).
func ownUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// users is the user namespace of the pod; nil for the host's. Which ids of the
// host it has was decided when the node took the pod (agent/admission).
func (m *maker) users() (*runtimev1.UserNamespace, error) {
	if !ownUsers(m.obj) {
		return nil, nil
	}
	name, err := m.handler()
	switch {
	case err != nil:
		return nil, err
	case !m.Node.Handlers[name].UserNamespaces && name == "":
		return nil, &configError{"can't set `spec.hostUsers: false`, runtime does not support user namespaces"}
	case !m.Node.Handlers[name].UserNamespaces:
		return nil, &configError{fmt.Sprintf("can't set `spec.hostUsers: false`, RuntimeClass handler %q does not support user namespaces", name)}
	case m.allocation == nil || m.allocation.UserNS == 0:
		return nil, &configError{"could not find an empty slot to allocate a user namespace"}
	}
	ids := []*runtimev1.IDMapping{{HostId: m.allocation.UserNS, Length: m.Node.IDsPerPod}}
	return &runtimev1.UserNamespace{Mode: runtimev1.NamespaceMode_POD, Uids: ids, Gids: ids}, nil
}

// mapUsers has what is mounted into a container show the ids that are on the
// disk, whatever ids of the host the pod has.
func mapUsers(config *runtimev1.ContainerConfig) {
	users := config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
	if users == nil {
		return
	}
	for _, mount := range config.Mounts {
		mount.UidMappings, mount.GidMappings = users.Uids, users.Gids
	}
}
