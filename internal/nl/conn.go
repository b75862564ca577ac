package nl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotFound says that the kernel has no such object.
	ErrNotFound = errors.New("not found")
	// ErrExists says that something else is already there under that name.
	ErrExists = errors.New("already exists")
)

// Conn is an rtnetlink socket in one network namespace. It stays in that
// namespace whatever the calling thread does, and serves one caller at a time.
type Conn struct {
	h *netlink.Handle
}

// Open opens a socket in the namespace of the calling thread.
func Open() (*Conn, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	return &Conn{h: h}, nil
}

// OpenAt opens a socket in the namespace that fd refers to.
func OpenAt(fd int) (*Conn, error) {
	h, err := netlink.NewHandleAt(vnetns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket in another namespace (needs root): %w", err)
	}
	return &Conn{h: h}, nil
}

// Close closes the socket.
func (c *Conn) Close() { c.h.Close() }

// explain names the action and its object, and adds the way out for the
// kernel's answers that have a usual one.
func explain(err error, action, object string) error {
	if err == nil {
		return nil
	}
	var notFound netlink.LinkNotFoundError
	switch {
	case errors.As(err, &notFound), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ESRCH),
		errors.Is(err, unix.ENOENT), errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s %s: %w (%w)", action, object, ErrNotFound, err)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s %s: %w (%w)", action, object, ErrExists, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s %s: run as root or with CAP_NET_ADMIN: %w", action, object, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s %s: this kernel lacks support for it (a module may be missing): %w", action, object, err)
	case errors.Is(err, unix.ENETUNREACH):
		return fmt.Errorf("%s %s: the next hop is on no directly connected network, or the link is down: %w", action, object, err)
	}
	return fmt.Errorf("%s %s: %w", action, object, err)
}

func ipNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return nil
	}
	bits := p.Addr().BitLen()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}
}

func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ones, bits := n.Mask.Size()
	a := toAddr(n.IP)
	if bits == 32 && a.Is6() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, ones)
}

func toAddr(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Addr{}
	}
	return a.Unmap()
}

func family(a netip.Addr) int {
	switch {
	case !a.IsValid():
		return unix.AF_UNSPEC
	case a.Is4():
		return unix.AF_INET
	}
	return unix.AF_INET6
}
