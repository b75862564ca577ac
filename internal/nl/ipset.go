package nl

import (
	"encoding/binary"
	"fmt"
	"os"

	vnl "github.com/vishvananda/netlink/nl"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ipsetModule is there while the kernel has ipsets; asking for them would load the module.
const ipsetModule = "/sys/module/ip_set"

// IPSet is a set of the kernel's ipset.
type IPSet struct {
	Name string
	// Ports are those of its elements, where they have any.
	Ports []uint16
}

// IPSets lists the sets of a namespace, a file descriptor; 0 or less is the caller's own. There are
// none where the kernel has no ipsets.
func IPSets(netns int) ([]IPSet, error) {
	if _, err := os.Stat(ipsetModule); err != nil {
		return nil, nil
	}
	messages, err := askIPSet(netns, vnl.IPSET_CMD_LIST, "")
	if err != nil {
		return nil, fmt.Errorf("list ipsets: %w", err)
	}
	var out []IPSet
	for _, m := range messages {
		s, err := parseIPSet(m)
		if err != nil {
			return nil, fmt.Errorf("list ipsets: %w", err)
		}
		// A large set comes in several messages.
		if n := len(out); n > 0 && out[n-1].Name == s.Name {
			out[n-1].Ports = append(out[n-1].Ports, s.Ports...)
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// DeleteIPSet removes a set that no rule uses.
func DeleteIPSet(netns int, name string) error {
	if _, err := askIPSet(netns, vnl.IPSET_CMD_DESTROY, name); err != nil {
		return fmt.Errorf("delete ipset %s (is a rule left that uses it?): %w", name, err)
	}
	return nil
}

// askIPSet is done by hand: the library's own functions print to standard error what they do not know.
func askIPSet(netns, command int, name string) ([][]byte, error) {
	ns := vnetns.None()
	if netns > 0 {
		ns = vnetns.NsHandle(netns)
	}
	socket, err := vnl.GetNetlinkSocketAt(ns, vnetns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	defer socket.Close()
	req := vnl.NewNetlinkRequest(command|unix.NFNL_SUBSYS_IPSET<<8, vnl.GetIpsetFlags(command))
	req.Sockets = map[int]*vnl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: socket}}
	req.AddData(&vnl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: vnl.NFNETLINK_V0})
	req.AddData(vnl.NewRtAttr(vnl.IPSET_ATTR_PROTOCOL, vnl.Uint8Attr(vnl.IPSET_PROTOCOL)))
	if name != "" {
		req.AddData(vnl.NewRtAttr(vnl.IPSET_ATTR_SETNAME, vnl.ZeroTerminated(name)))
	}
	return req.Execute(unix.NETLINK_NETFILTER, 0)
}

func parseIPSet(message []byte) (s IPSet, err error) {
	if len(message) < vnl.SizeofNfgenmsg {
		return s, unix.EBADMSG
	}
	err = eachAttr(message[vnl.SizeofNfgenmsg:], func(typ uint16, v []byte) error {
		switch typ {
		case vnl.IPSET_ATTR_SETNAME:
			s.Name = unix.ByteSliceToString(v)
		case vnl.IPSET_ATTR_ADT: // elements, each a list of attributes
			return eachAttr(v, func(_ uint16, v []byte) error {
				return eachAttr(v, func(typ uint16, v []byte) error {
					if typ == vnl.IPSET_ATTR_PORT && len(v) >= 2 {
						s.Ports = append(s.Ports, binary.BigEndian.Uint16(v))
					}
					return nil
				})
			})
		}
		return nil
	})
	return s, err
}

func eachAttr(b []byte, each func(typ uint16, v []byte) error) error {
	attrs, err := vnl.ParseRouteAttr(b)
	if err != nil {
		return fmt.Errorf("parse attributes: %w", err)
	}
	for _, a := range attrs {
		if err := each(a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), a.Value); err != nil {
			return err
		}
	}
	return nil
}
