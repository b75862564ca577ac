package nl

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Program is a BPF program at a link's clsact hook, which kernels before 6.6
// have in the place of tcx.
type Program struct {
	Link   int
	Egress bool
	// Name tells whose it is.
	Name string
	// FD is the program; only written.
	FD int
}

// programPriority is where in the hook's order a Program is. It has one place
// there, so that one is replaced by another at once.
const programPriority = 77

func hookOf(egress bool) uint32 {
	if egress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// SetProgram puts a program into the hook, in the place of the one that is
// there, and makes the clsact qdisc that it needs.
func (c *Conn) SetProgram(p Program) error {
	if err := c.addClsact(p.Link); err != nil {
		return err
	}
	err := c.h.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: p.Link, Parent: hookOf(p.Egress), Handle: 1, Priority: programPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: p.FD, Name: p.Name, DirectAction: true,
	})
	return explain(err, "set program "+p.Name+" on link", fmt.Sprintf("#%d", p.Link))
}

// addClsact gives a link the hooks that filters are at.
func (c *Conn) addClsact(link int) error {
	err := c.h.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explain(err, "add clsact qdisc to link", fmt.Sprintf("#%d", link))
}

// Programs lists the BPF programs at a link's clsact hooks that have the name.
func (c *Conn) Programs(link int, name string) ([]Program, error) {
	var out []Program
	for _, egress := range []bool{false, true} {
		all, err := dump(func() ([]netlink.Filter, error) { return c.h.FilterList(byIndex(link), hookOf(egress)) })
		if err != nil {
			return nil, explain(err, "list programs of link", fmt.Sprintf("#%d", link))
		}
		for _, f := range all {
			if b, ok := f.(*netlink.BpfFilter); ok && b.Name == name && b.Priority == programPriority {
				out = append(out, Program{Link: link, Egress: egress, Name: name})
			}
		}
	}
	return out, nil
}

// DeleteProgram removes a program; the qdisc stays, because others may use it by now.
func (c *Conn) DeleteProgram(p Program) error {
	err := c.h.FilterDel(&netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
		LinkIndex: p.Link, Parent: hookOf(p.Egress), Handle: 1, Priority: programPriority, Protocol: unix.ETH_P_ALL,
	}})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // gone, or the qdisc is
		return nil
	}
	return explain(err, "delete program "+p.Name+" of link", fmt.Sprintf("#%d", p.Link))
}
