package ebpf

import (
	"errors"
	"fmt"

	"nodelet/internal/nl"
)

// programName tells our programs from others at clsact hooks.
const programName = "nodelet-proxy"

// attachClsact is attachDevice for kernels without tcx. The filters outlive
// the daemon by themselves.
func (k *kernel) attachClsact(index int) (changes int, err error) {
	c, err := nl.Open()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	there, err := c.Programs(index, programName)
	if err != nil {
		return 0, err
	}
	for _, d := range []direction{egress, ingress} { // answers first
		prog, _ := k.progFor(d)
		if err := c.SetProgram(nl.Program{Link: index, Egress: d == egress, Name: programName, FD: prog.FD()}); err != nil {
			return changes, err
		}
		changes++
	}
	return changes - len(there), nil
}

// clsactPrograms lists our programs at the clsact hooks of all links.
func clsactPrograms(c *nl.Conn) (out []nl.Program, err error) {
	links, err := c.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		all, err := c.Programs(l.Index, programName)
		if err != nil && !errors.Is(err, nl.ErrNotFound) {
			return nil, err
		}
		out = append(out, all...)
	}
	return out, nil
}

// cleanClsact removes them.
func cleanClsact() error {
	c, err := nl.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	all, err := clsactPrograms(c)
	if err != nil {
		return err
	}
	for _, p := range all {
		err = errors.Join(err, c.DeleteProgram(p))
	}
	return err
}

// clsactResidue names them.
func clsactResidue() (out []string, err error) {
	c, err := nl.Open()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := clsactPrograms(c)
	for _, p := range all {
		out = append(out, fmt.Sprintf("program %s on link #%d (egress %t)", p.Name, p.Link, p.Egress))
	}
	return out, err
}
