package nl

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is one network interface as the kernel shows it.
type Link struct {
	Index int
	Name  string
	// Kind is the driver's name ("veth", "bridge"...); "device" for hardware, loopback included.
	Kind string
	MTU  int
	MAC  net.HardwareAddr
	// Up is the administrative state.
	Up       bool
	Loopback bool
	// Group is the interface group, which nodelet uses to know its own links.
	Group uint32
	// PeerIndex is the index of a veth's other end in PeerNS, or of the parent.
	PeerIndex int
	// Master is the index of the bridge the link is a port of, else 0.
	Master int
}

// String is one line: name, kind, state.
func (l Link) String() string {
	state := "down"
	if l.Up {
		state = "up"
	}
	return fmt.Sprintf("%s %s %s mtu %d group %d", l.Name, l.Kind, state, l.MTU, l.Group)
}

func toLink(l netlink.Link) Link {
	a := l.Attrs()
	return Link{
		Index: a.Index, Name: a.Name, Kind: l.Type(), MTU: a.MTU, MAC: a.HardwareAddr,
		Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0,
		Group: a.Group, PeerIndex: a.ParentIndex, Master: a.MasterIndex,
	}
}

// Link looks one link up by name.
func (c *Conn) Link(name string) (Link, error) {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return Link{}, explain(err, "look up link", name)
	}
	return toLink(l), nil
}

// LinkByIndex looks one link up by index.
func (c *Conn) LinkByIndex(index int) (Link, error) {
	l, err := c.h.LinkByIndex(index)
	if err != nil {
		return Link{}, explain(err, "look up link", fmt.Sprintf("#%d", index))
	}
	return toLink(l), nil
}

// Links lists all links of the namespace.
func (c *Conn) Links() ([]Link, error) {
	all, err := dump(c.h.LinkList)
	if err != nil {
		return nil, explain(err, "list", "links")
	}
	links := make([]Link, len(all))
	for i, l := range all {
		links[i] = toLink(l)
	}
	return links, nil
}

// Veth describes a veth pair whose peer is created inside another namespace.
type Veth struct {
	Name string
	MAC  net.HardwareAddr
	MTU  int
	// Group marks the end in this namespace.
	Group uint32
	// PeerNS is the open namespace of the peer; 0 means this one.
	PeerNS   int
	PeerName string
	PeerMAC  net.HardwareAddr
}

// AddVeth creates a pair, this end up and the peer down, and returns the index
// of this end. It is not idempotent: a link of either name gives ErrExists.
// The peer is created where it belongs, because moving a link costs the kernel
// a synchronize_net (16 ms measured).
func (c *Conn) AddVeth(v Veth) (int, error) {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.HardwareAddr, a.Group = v.Name, v.MTU, v.MAC, v.Group
	a.Flags = net.FlagUp
	link := &netlink.Veth{LinkAttrs: a, PeerName: v.PeerName, PeerMTU: uint32(v.MTU), PeerHardwareAddr: v.PeerMAC}
	if v.PeerNS != 0 {
		link.PeerNamespace = netlink.NsFd(v.PeerNS)
	}
	if err := c.h.LinkAdd(link); err != nil {
		return 0, explain(err, "add veth pair", v.Name+" <-> "+v.PeerName)
	}
	return link.Attrs().Index, nil
}

// AddBridge creates a bridge and sets it up.
func (c *Conn) AddBridge(name string) error {
	a := netlink.NewLinkAttrs()
	a.Name = name
	a.Flags = net.FlagUp
	err := c.h.LinkAdd(&netlink.Bridge{LinkAttrs: a})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explain(err, "add bridge", name)
}

// SetUp sets a link administratively up.
func (c *Conn) SetUp(index int) error {
	return explain(c.h.LinkSetUp(byIndex(index)), "set up link", fmt.Sprintf("#%d", index))
}

// SetMTU changes a link's MTU.
func (c *Conn) SetMTU(index, mtu int) error {
	return explain(c.h.LinkSetMTU(byIndex(index), mtu), "set mtu of link", fmt.Sprintf("#%d to %d", index, mtu))
}

// SetMaster makes a link a port of a bridge.
func (c *Conn) SetMaster(index, bridge int) error {
	return explain(c.h.LinkSetMasterByIndex(byIndex(index), bridge), "attach link", fmt.Sprintf("#%d to bridge #%d", index, bridge))
}

// DeleteLink removes a link; for a veth its peer goes too. Deleting takes the
// kernel 16-30 ms, and the call returns when it is done.
func (c *Conn) DeleteLink(index int) error {
	err := c.h.LinkDel(byIndex(index))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return explain(err, "delete link", fmt.Sprintf("#%d", index))
}

func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// dumpRetries bounds how often a dump is repeated that the kernel marked as
// inconsistent, because something changed meanwhile.
const dumpRetries = 10

func dump[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		all, err := list()
		if err == nil || !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpRetries {
			return all, err
		}
	}
}

// AddDummy creates a link that leads nowhere and sets it up: a place for addresses.
func (c *Conn) AddDummy(name string) error {
	a := netlink.NewLinkAttrs()
	a.Name = name
	a.Flags = net.FlagUp
	err := c.h.LinkAdd(&netlink.Dummy{LinkAttrs: a})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return explain(err, "add dummy link", name)
}
