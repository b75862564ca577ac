package ebpf

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
)

// canRefuse tells whether a hook can say ECONNREFUSED (5.18) and not only EPERM.
func canRefuse() bool {
	return features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval) == nil
}

// Detect proves that the kernel takes the programs, by loading them; nothing
// of it stays. It tells whether IPv6 works as well.
func Detect(_ context.Context, cfg Config) (ipv6 bool, err error) {
	if err := errors.Join(CheckMapSizes(cfg.MapSizes), checkCgroup(cfg.Cgroup)); err != nil {
		return false, err
	}
	b, err := New(cfg)
	if err != nil {
		return false, err
	}
	if _, err := cgroupRoot(); err != nil {
		return false, err
	}
	spec, err := specFor(b.cookie, nil)
	if err != nil {
		return false, err
	}
	for _, m := range spec.Maps {
		m.MaxEntries = min(m.MaxEntries, 64)
	}
	all, err := ebpf.NewCollection(spec)
	var refused *ebpf.VerifierError
	switch {
	case errors.As(err, &refused):
		return false, fmt.Errorf("load eBPF programs (needs Linux 5.15): the kernel's verifier says: %w", err)
	case err != nil:
		return false, fmt.Errorf("load eBPF programs (needs Linux 5.15 with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_NET_CLS_ACT, and root or CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	all.Close()
	return true, nil
}
