package node

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/exclusive"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/internal/cgroup"
)

// The values of enforceNodeAllocatable.
const (
	enforceNone               = "none"
	enforcePods               = "pods"
	enforceSystem             = "system-reserved"
	enforceSystemCompressible = "system-reserved-compressible"
	enforceKube               = "kube-reserved"
	enforceKubeCompressible   = "kube-reserved-compressible"
)

// Enforcement is whose use of the machine is limited by what is reserved.
type Enforcement struct {
	// Node is enforceNodeAllocatable; nil means the pods', as upstream's default.
	Node []string
	// KubeCgroup and SystemCgroup are kubeReservedCgroup and systemReservedCgroup.
	KubeCgroup, SystemCgroup string
}

// pods: what all pods use together is limited.
func (e *Enforcement) pods() bool { return e.Node == nil || slices.Contains(e.Node, enforcePods) }

// check names everything that is wrong, as upstream's validation does. cpus is reservedSystemCPUs.
func (e *Enforcement) check(cpus string) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("enforceNodeAllocatable: "+format, args...))
	}
	needs := map[string]struct{ field, cgroup string }{
		enforceNone: {}, enforcePods: {},
		enforceSystem: {"systemReservedCgroup", e.SystemCgroup}, enforceSystemCompressible: {"systemReservedCgroup", e.SystemCgroup},
		enforceKube: {"kubeReservedCgroup", e.KubeCgroup}, enforceKubeCompressible: {"kubeReservedCgroup", e.KubeCgroup},
	}
	seen := map[string]bool{}
	for _, what := range e.Node {
		need, known := needs[what]
		switch {
		case !known:
			bad("%q is none of pods, system-reserved, system-reserved-compressible, kube-reserved, kube-reserved-compressible, none", what)
		case seen[what]:
			bad("%s is there twice", what)
		case need.field != "" && need.cgroup == "":
			bad("%s needs %s", what, need.field)
		}
		seen[what] = true
	}
	if seen[enforceNone] && len(e.Node) > 1 {
		bad("none excludes all else")
	}
	for _, pair := range [][2]string{{enforceSystem, enforceSystemCompressible}, {enforceKube, enforceKubeCompressible}} {
		if seen[pair[0]] && seen[pair[1]] {
			bad("either %s or %s, not both", pair[0], pair[1])
		}
	}
	if _, err := cpuplan.Parse(cpus); err != nil {
		errs = append(errs, fmt.Errorf("reservedSystemCPUs: %w", err))
	}
	if cpus != "" && e.SystemCgroup+e.KubeCgroup != "" {
		errs = append(errs, errors.New("reservedSystemCPUs: excludes systemReservedCgroup and kubeReservedCgroup: CPUs are kept, not amounts"))
	}
	return errors.Join(errs...)
}

// reservedCgroup is a cgroup of the machine's own programs that is limited.
type reservedCgroup struct {
	// what is how messages call it.
	what, name string
	limits     cgroup.Limits
}

// reservedCgroups are those that the configuration asks for.
func (k *KubeletOptions) reservedCgroups() (all []reservedCgroup) {
	e := &k.Enforce
	for _, r := range []struct {
		name, what, cgroup string
		list               corev1.ResourceList
	}{
		{enforceSystem, "system", e.SystemCgroup, k.SystemReserved}, {enforceSystemCompressible, "system", e.SystemCgroup, k.SystemReserved},
		{enforceKube, "kube", e.KubeCgroup, k.KubeReserved}, {enforceKubeCompressible, "kube", e.KubeCgroup, k.KubeReserved},
	} {
		if slices.Contains(e.Node, r.name) {
			compressible := r.name == enforceSystemCompressible || r.name == enforceKubeCompressible
			all = append(all, reservedCgroup{r.what, r.cgroup, cgroup.ForReserved(r.list, compressible)})
		}
	}
	return all
}

// checkReserved keeps the daemon from starting where what is to be limited is not there, as upstream does.
func (p *agentParts) checkReserved() error {
	var errs []error
	for _, r := range p.n.cfg.Kubelet.reservedCgroups() {
		if err := p.cgroups.CheckForeign(r.name, r.limits); err != nil {
			errs = append(errs, fmt.Errorf("%sReservedCgroup: %w", r.what, err))
		}
	}
	if err := checkCPUs(p.n.cfg.Kubelet.CPUPolicy.Reserved, "/sys"); err != nil {
		errs = append(errs, fmt.Errorf("reservedSystemCPUs: %w", err))
	}
	return errors.Join(errs...)
}

// checkCPUs refuses CPUs that this machine does not have.
func checkCPUs(list, sys string) error {
	named, err := cpuplan.Parse(list)
	if err != nil || len(named) == 0 {
		return err
	}
	topology, err := exclusive.ReadTopology(sys)
	if err != nil {
		return err
	}
	_, err = cpuplan.Reserved(topology, named, 0)
	return err
}
