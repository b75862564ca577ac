package nl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The part of the kernel's include/uapi/linux/netdev.h that is used.
const (
	netdevDevGet         = 1
	netdevDevIfindex     = 1
	netdevDevXDPFeatures = 3
	xdpActNDOXmit        = 1 << 2
)

// genlHeader is command, version and two bytes that must be zero, which those of
// the library's own type are not: it takes what stands behind it in memory.
type genlHeader [vnl.SizeofGenlmsg]byte

func (h genlHeader) Len() int          { return len(h) }
func (h genlHeader) Serialize() []byte { return h[:] }

// XDPSends tells whether a link takes packets that XDP programs of other links
// redirect to it: its driver can, and for a veth its other end can receive
// them. Before Linux 6.3 the kernel does not say: errors.ErrUnsupported. It
// asks in the network namespace of the calling thread.
func XDPSends(link int) (bool, error) {
	family, err := netlink.GenlFamilyGet("netdev")
	if errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("ask what link #%d can do with XDP (needs Linux 6.3): %w", link, errors.ErrUnsupported)
	}
	if err != nil {
		return false, fmt.Errorf("ask what link #%d can do with XDP: %w", link, err)
	}
	req := vnl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genlHeader{netdevDevGet, 1})
	req.AddData(vnl.NewRtAttr(netdevDevIfindex, vnl.Uint32Attr(uint32(link))))
	messages, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return false, explain(err, "ask what XDP can do on link", fmt.Sprintf("#%d", link))
	}
	for _, m := range messages {
		if len(m) < vnl.SizeofGenlmsg {
			continue
		}
		attrs, err := vnl.ParseRouteAttr(m[vnl.SizeofGenlmsg:])
		if err != nil {
			return false, fmt.Errorf("read what XDP can do on link #%d: %w", link, err)
		}
		for _, a := range attrs {
			if a.Attr.Type == netdevDevXDPFeatures && len(a.Value) >= 8 {
				return binary.NativeEndian.Uint64(a.Value)&xdpActNDOXmit != 0, nil
			}
		}
	}
	return false, nil
}
