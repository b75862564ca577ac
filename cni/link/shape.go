package link

import (
	"errors"
	"fmt"

	"nodelet/cni/linkplan"
	"nodelet/internal/nl"
)

// ifbKind is the kind of links that shape what pods send.
const ifbKind = "ifb"

// applyShapes limits what the host end sends to the pod and receives from it.
func applyShapes(conn *nl.Conn, index int, end linkplan.End) error {
	if s := end.ToPod; s != nil {
		if err := conn.SetShaper(shaper(index, s)); err != nil {
			return err
		}
	}
	s := end.FromPod
	if s == nil {
		return nil
	}
	ifb, err := ifbOf(conn, end)
	if err != nil {
		return err
	}
	// The bucket first: from the redirection on packets go through it.
	if err := conn.SetShaper(shaper(ifb, s)); err != nil {
		return err
	}
	return conn.RedirectIngress(index, ifb)
}

func shaper(index int, s *linkplan.Shape) nl.Shaper {
	return nl.Shaper{Link: index, Rate: s.Rate, Burst: s.Burst, Limit: s.Limit}
}

// ifbOf makes the ifb link of a host end, or finds it.
func ifbOf(conn *nl.Conn, end linkplan.End) (index int, err error) {
	name := linkplan.IfbName(end.Name)
	if err := conn.AddIfb(name, end.MTU, linkplan.Group); err != nil {
		return 0, err
	}
	l, err := conn.Link(name)
	if err != nil {
		return 0, err
	}
	if !ourIfb(l) {
		return 0, fmt.Errorf("shape what a pod sends: %s is not nodelet's (group %d, not %d)", l, l.Group, linkplan.Group)
	}
	return l.Index, conn.SetUp(l.Index)
}

func ourIfb(l nl.Link) bool {
	_, named := linkplan.VethOf(l.Name)
	return named && l.Kind == ifbKind && l.Group == linkplan.Group
}

// checkShapes gives what is wrong with the limits of a host end.
func checkShapes(conn *nl.Conn, index int, end linkplan.End) error {
	if end.ToPod == nil && end.FromPod == nil {
		return nil
	}
	all, err := conn.Shapers()
	if err != nil {
		return err
	}
	rates := map[int]uint64{}
	for _, s := range all {
		rates[s.Link] = s.Rate
	}
	if s := end.ToPod; s != nil && rates[index] != s.Rate {
		err = errors.Join(err, fmt.Errorf("link %s does not limit what the pod receives to %d bytes/s", end.Name, s.Rate))
	}
	if end.FromPod == nil {
		return err
	}
	to, redirectErr := conn.IngressRedirect(index)
	ifb, ifbErr := conn.Link(linkplan.IfbName(end.Name))
	if redirectErr != nil || ifbErr != nil {
		return errors.Join(err, redirectErr, ifbErr)
	}
	if to != ifb.Index || rates[ifb.Index] != end.FromPod.Rate || !ifb.Up {
		err = errors.Join(err, fmt.Errorf("link %s does not limit what the pod sends to %d bytes/s", end.Name, end.FromPod.Rate))
	}
	return err
}

// removeIfb deletes the ifb link of a host end, if there is one.
func removeIfb(host *nl.Conn, veth string) error {
	l, err := host.Link(linkplan.IfbName(veth))
	if errors.Is(err, nl.ErrNotFound) || err == nil && !ourIfb(l) {
		return nil
	}
	if err != nil {
		return err
	}
	return host.DeleteLink(l.Index)
}

// Orphans lists the host ends that are gone and have left the link that
// shaped what their pod sent: it is made after them and removed after them.
func Orphans(host *nl.Conn) ([]string, error) {
	links, err := host.Links()
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, l := range links {
		there[l.Name] = true
	}
	var veths []string
	for _, l := range links {
		if veth, _ := linkplan.VethOf(l.Name); ourIfb(l) && !there[veth] {
			veths = append(veths, veth)
		}
	}
	return veths, nil
}
