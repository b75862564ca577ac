package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// VirtualServer is what clients connect to.
type VirtualServer struct {
	Addr  netip.Addr
	Proto uint8 // IPPROTO_*
	Port  uint16
}

// String is "addr:port/protocol number".
func (v VirtualServer) String() string {
	return fmt.Sprintf("%s/%d", netip.AddrPortFrom(v.Addr, v.Port), v.Proto)
}

// RealServer is where connections go.
type RealServer struct {
	netip.AddrPort
	Weight int
	// Connections that are there, closing ones included. Only read.
	Connections int
}

// Service is a virtual server with what it has.
type Service struct {
	VirtualServer
	Scheduler string
	Real      []RealServer
}

// Timeouts of connections; 0 leaves one as it is.
type Timeouts struct {
	TCP, TCPFin, UDP time.Duration
}

// Conn is a connection to IPVS in one network namespace.
type Conn struct{ h *ipvs.Handle }

// loadedFile is there while the module is.
const loadedFile = "/proc/thread-self/net/ip_vs"

// Load loads the kernel's module; it is not an error when it is there already.
func Load() error {
	if _, err := os.Stat(loadedFile); err == nil {
		return nil
	}
	out, err := exec.Command("modprobe", "ip_vs").CombinedOutput()
	if err != nil {
		return fmt.Errorf("load kernel module ip_vs: %w: %s", err, out)
	}
	if _, err := os.Stat(loadedFile); err != nil {
		return fmt.Errorf("load kernel module ip_vs: it is still not there: %w", err)
	}
	return nil
}

// Open connects. netns is a file descriptor of the namespace; 0 or less is the
// caller's own. Without the module it gives an error that wraps errors.ErrUnsupported.
func Open(netns int) (*Conn, error) {
	if _, err := os.Stat(loadedFile); err != nil {
		return nil, fmt.Errorf("open IPVS: the kernel module ip_vs is not loaded: %w", errors.ErrUnsupported)
	}
	path := ""
	if netns > 0 {
		path = fmt.Sprintf("/proc/self/fd/%d", netns)
	}
	h, err := ipvs.New(path)
	if err != nil {
		return nil, fmt.Errorf("open IPVS: %w", err)
	}
	return &Conn{h}, nil
}

// Close ends the connection.
func (c *Conn) Close() { c.h.Close() }

// List gives all services.
func (c *Conn) List() ([]Service, error) {
	all, err := c.h.GetServices()
	if err != nil {
		return nil, fmt.Errorf("list virtual servers: %w", err)
	}
	out := make([]Service, 0, len(all))
	for _, s := range all {
		a, ok := netip.AddrFromSlice(s.Address)
		if !ok || s.FWMark != 0 {
			continue // somebody else's: by packet mark
		}
		if s.AddressFamily == unix.AF_INET {
			a = a.Unmap()
		}
		one := Service{VirtualServer: VirtualServer{a, uint8(s.Protocol), s.Port}, Scheduler: s.SchedName}
		real, err := c.h.GetDestinations(s)
		if errors.Is(err, unix.ESRCH) {
			continue // went meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list real servers of %s: %w", one.VirtualServer, err)
		}
		for _, d := range real {
			if at, ok := netip.AddrFromSlice(d.Address); ok {
				one.Real = append(one.Real, RealServer{
					AddrPort: netip.AddrPortFrom(at.Unmap(), d.Port), Weight: d.Weight, Connections: d.ActiveConnections + d.InactiveConnections,
				})
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func service(v VirtualServer, scheduler string) *ipvs.Service {
	s := &ipvs.Service{
		Address: v.Addr.AsSlice(), Protocol: uint16(v.Proto), Port: v.Port, SchedName: scheduler,
		AddressFamily: unix.AF_INET, Netmask: 0xFFFFFFFF,
	}
	if v.Addr.Is6() {
		s.AddressFamily, s.Netmask = unix.AF_INET6, 128
	}
	return s
}

func destination(r RealServer) *ipvs.Destination {
	d := &ipvs.Destination{
		Address: r.Addr().AsSlice(), Port: r.Port(), Weight: r.Weight, ConnectionFlags: ipvs.ConnectionFlagMasq,
		AddressFamily: unix.AF_INET,
	}
	if r.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	return d
}

// Add makes a virtual server.
func (c *Conn) Add(v VirtualServer, scheduler string) error {
	err := c.h.NewService(service(v, scheduler))
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("add virtual server %s: no scheduler %q: load its kernel module ip_vs_%s", v, scheduler, scheduler)
	}
	return explain(err, "add virtual server %s", v)
}

// SetScheduler changes how a virtual server chooses.
func (c *Conn) SetScheduler(v VirtualServer, scheduler string) error {
	return explain(c.h.UpdateService(service(v, scheduler)), "change virtual server %s", v)
}

// Delete removes a virtual server with its real ones; connections to them end.
func (c *Conn) Delete(v VirtualServer) error {
	err := c.h.DelService(service(v, ""))
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return explain(err, "delete virtual server %s", v)
}

// AddReal adds a real server.
func (c *Conn) AddReal(v VirtualServer, r RealServer) error {
	return explain(c.h.NewDestination(service(v, ""), destination(r)), "add real server %s to %s", r.AddrPort, v)
}

// SetWeight changes a real server's weight; 0 is: no new connections.
func (c *Conn) SetWeight(v VirtualServer, r RealServer) error {
	return explain(c.h.UpdateDestination(service(v, ""), destination(r)), "change real server %s of %s", r.AddrPort, v)
}

// DeleteReal removes a real server; connections to it end.
func (c *Conn) DeleteReal(v VirtualServer, r RealServer) error {
	err := c.h.DelDestination(service(v, ""), destination(r))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return explain(err, "delete real server %s of %s", r.AddrPort, v)
}

// SetTimeouts changes those that are given.
func (c *Conn) SetTimeouts(t Timeouts) error {
	return explain(c.h.SetConfig(&ipvs.Config{TimeoutTCP: t.TCP, TimeoutTCPFin: t.TCPFin, TimeoutUDP: t.UDP}), "set IPVS timeouts")
}

func explain(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
