package proxytest

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/proxy"
	"nodelet/proxy/lb"
)

// Trait tells how a back end works, where that is its own business.
type Trait func(*subject)

// subject is the back end that is tested.
type subject struct {
	open Open
	// sockets makes a client's socket, on the node or in one of its pods.
	sockets func(open func() error) error
	// ownNAT: netfilter does not see translated connections.
	ownNAT bool
	// refusedByEPERM: see RefusedByEPERM; keepsSockets: see KeepsSockets.
	refusedByEPERM, keepsSockets bool
	refusesSCTP                  bool
	// prepare changes each lab before the back end is opened; may be nil.
	prepare func(*Lab)
	// local is how the traffic of local pods is told.
	local lb.LocalTraffic
	// configure completes the configuration that finds what is left.
	configure func(*proxy.Config)
}

// Configured says with which settings the back end is found by those who only
// know that some mode was in use.
func Configured(set func(*proxy.Config)) Trait { return func(s *subject) { s.configure = set } }

// Prepared changes each network before the back end gets to know it.
func Prepared(prepare func(*Lab)) Trait { return func(s *subject) { s.prepare = prepare } }

// Sockets has the sockets of clients on the node and in its pods made inside
// a call of within, which may move the calling thread to where the back end
// sees it. Sockets of other hosts are not made there.
func Sockets(within func(open func() error) error) Trait {
	return func(s *subject) { s.sockets = within }
}

// OwnNAT says that netfilter does not see which connections are translated.
func OwnNAT() Trait { return func(s *subject) { s.ownNAT = true } }

// RefusedByEPERM says that this kernel lets a process of the node itself hear
// EPERM where it should hear ECONNREFUSED.
func RefusedByEPERM() Trait { return func(s *subject) { s.refusedByEPERM = true } }

// KeepsSockets says that on this kernel a connected UDP socket of the node's
// own processes stays with its endpoint when that leaves.
func KeepsSockets() Trait { return func(s *subject) { s.keepsSockets = true } }

// movable leaves out the UDP flows ("node 10.96.0.1:53/UDP") that this kernel
// does not let go elsewhere.
func (s *subject) movable(flows ...string) []string {
	return slices.DeleteFunc(flows, func(f string) bool { return s.keepsSockets && strings.HasPrefix(f, "node ") })
}

// ofNode tells whether a host's sockets are in the node's hands.
func (h *Host) ofNode() bool { return slices.Contains([]string{"node", "a", "b", "c"}, h.Name) }

// ended tells that a connected UDP socket has lost its peer by the kernel's doing.
func ended(err error) bool {
	return errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EDESTADDRREQ)
}
