package ebpf

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"

	"nodelet/internal/netns"
)

// canRefuse tells whether a hook can say ECONNREFUSED (5.18) and not only EPERM.
func canRefuse() bool {
	return features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval) == nil
}

// Detect proves that the kernel takes the programs, by loading them and putting
// them where they have to be; nothing of it stays. It tells whether IPv6 works
// as well.
func Detect(_ context.Context, cfg Config) (ipv6 bool, err error) {
	if err := errors.Join(CheckMapSizes(cfg.MapSizes), checkCgroup(cfg.Cgroup)); err != nil {
		return false, err
	}
	b, err := New(cfg)
	if err != nil {
		return false, err
	}
	dir, err := b.cgroup()
	if err != nil {
		return false, err
	}
	spec, err := specFor(b.cookie, nil)
	if err != nil {
		return false, err
	}
	for _, m := range spec.Maps {
		m.MaxEntries = min(m.MaxEntries, 64)
	}
	k := &kernel{clsact: cfg.NoTCX}
	err = k.open(spec)
	var refused *ebpf.VerifierError
	switch {
	case errors.As(err, &refused):
		return false, fmt.Errorf("load eBPF programs (needs Linux 5.15): the kernel's verifier says: %w", err)
	case err != nil:
		return false, fmt.Errorf("load eBPF programs (needs Linux 5.15 with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_NET_CLS_ACT, and root or CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	if err := errors.Join(k.trySockets(dir), k.tryDevice(), k.close()); err != nil {
		return false, err
	}
	return true, nil
}

// trySockets puts the programs into the hooks of the cgroup and takes them
// away again. Their maps know of no Service, so no socket notices.
func (k *kernel) trySockets(dir string) error {
	for _, h := range k.hooks() {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: h.at, Program: h.prog})
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			return fmt.Errorf("attach %s to cgroup %s (a security policy is in the way, or a program of somebody else that wants to be alone there): %w", h.name, dir, err)
		}
	}
	return nil
}

// loopback is the index of that link in every network namespace.
const loopback = 1

// tryDevice tells whether the programs can be put on links. Whether there is
// tcx, the kernel says. Without it a clsact qdisc is tried, on a link of a
// network namespace that ends with the trial: on one of the node it would stay.
func (k *kernel) tryDevice() error {
	if _, err := link.QueryPrograms(link.QueryOptions{Target: loopback, Attach: ebpf.AttachTCXIngress}); err == nil && !k.clsact {
		return nil
	}
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	err = ns.Do(func() error {
		_, err := k.attachClsact(loopback)
		return err
	})
	if err != nil {
		return fmt.Errorf("attach eBPF programs to a link (before Linux 6.6 it needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF): %w", err)
	}
	return nil
}
