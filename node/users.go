package node

import (
	"errors"
	"fmt"
	"os"
	"os/user"

	"nodelet/agent/admission"
)

// kubeletUser is the user that ids for pods are set aside for, on a kubelet's node and here.
const kubeletUser = "kubelet"

// findUsers learns which ids of the host pods with user namespaces may have:
// those that /etc/subuid and /etc/subgid set aside for the user kubelet where
// there is one, else all but the host's own.
func (p *agentParts) findUsers() error {
	perPod := uint32(admission.DefaultIDsPerPod)
	if n := p.n.cfg.Kubelet.UserNamespaceIDsPerPod; n > 0 {
		perPod = uint32(n)
	}
	p.users = admission.DefaultUserIDs(perPod)
	var unknown user.UnknownUserError
	switch _, err := user.Lookup(kubeletUser); {
	case errors.As(err, &unknown):
		return p.users.Check(p.n.cfg.MaxPods)
	case err != nil:
		return fmt.Errorf("look for user %s: %w", kubeletUser, err)
	}
	var texts [2]string
	for i, file := range []string{"/etc/subuid", "/etc/subgid"} {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read ids of user %s: %w", kubeletUser, err)
		}
		texts[i] = string(text)
	}
	first, count, err := admission.SubIDs(kubeletUser, texts[0], texts[1])
	if err != nil {
		return fmt.Errorf("there is a user %s, so pods' user namespaces are made of its ids: %w", kubeletUser, err)
	}
	p.users = admission.UserIDs{First: first, Count: count, PerPod: perPod}
	return p.users.Check(p.n.cfg.MaxPods)
}
