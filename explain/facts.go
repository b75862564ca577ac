package explain

import (
	"net/netip"

	"nodelet/internal/nft/sim"
	"nodelet/internal/store"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// Facts are everything that was read for one answer. What could not be read is
// in Unread, and its field is empty.
type Facts struct {
	Question
	Names
	// ServiceCIDRs are the ranges of cluster IPs.
	ServiceCIDRs []netip.Prefix
	// Revision is the store's, Applied the one the kernel holds for Services.
	Revision, Applied store.Revision
	// Views are the ports of the Service that the packet is about; Skipped says
	// why the proxy has nothing to do with it.
	Views []lb.View
	// Verdict and Trace are what package eval says.
	Verdict eval.Verdict
	Trace   []string
	// Proxied: Services are this daemon's work; Network: pods' links are.
	Proxied, Network bool
	// Kernel is the back end's comparison; nil when it was not or could not be made.
	Kernel *lb.Kernel
	// Ways are those the rules of the kernel leave the packet, all tables
	// together; Complete is false when there were too many to follow.
	Ways     []sim.Outcome
	Complete bool
	// Source is the link of a pod that sends from this node.
	Source *Link
	// Paths lead to each address where the packet may go.
	Paths []Path
	// Flows are tracked connections from this source to this destination.
	Flows []Flow
	// Listeners are sockets of this node on the destination's port.
	Listeners []netip.AddrPort
	// Unread lists what could not be read, and why.
	Unread []string
}

// Link is a pod's attachment as the node has it.
type Link struct {
	Pod  string
	Name string
	// Found: the link exists; Up: it is up on both ends.
	Found, Up bool
	// MAC is that of the pod's end by the neighbour entry; WantMAC what it must be.
	// Neighbour is the entry's state, empty when there is none.
	Neighbour, MAC, WantMAC string
	// Inside is what is wrong within the pod's namespace; empty when nothing is.
	Inside string
}

// Obstacle is why a packet is not sent on by this node's routing.
type Obstacle string

// The obstacles, as the kernel's own answer to a route look-up tells them.
const (
	NoObstacle    Obstacle = ""
	NoRoute       Obstacle = "no route"
	ForwardingOff Obstacle = "forwarding off"
	ReversePath   Obstacle = "reverse path"
	RouteRefuses  Obstacle = "route refuses"
	WrongWay      Obstacle = "wrong way"
)

// Path is the way from this node to one address.
type Path struct {
	To   netip.AddrPort `json:"to"`
	Name string         `json:"name,omitempty"`
	// Node is where it ends; Here is this one.
	Node string `json:"node,omitempty"`
	Here bool   `json:"here"`
	// Route is what the kernel answers, Device where it leaves.
	Route    string   `json:"route,omitempty"`
	Device   string   `json:"device,omitempty"`
	Obstacle Obstacle `json:"obstacle,omitempty"`
	// Detail names the sysctl or route that is the obstacle.
	Detail string `json:"detail,omitempty"`
	// NextHop is whose neighbour entry counts, and its state when it is bad.
	NextHop   netip.Addr `json:"nextHop,omitzero"`
	BadHop    string     `json:"badNextHop,omitempty"`
	LinkState string     `json:"linkState,omitempty"`
	// Pod is the pod's link when it is here.
	Pod *Link `json:"-"`
	// Back is the obstacle on the way back of an answer that is not translated.
	Back       Obstacle `json:"back,omitempty"`
	BackDetail string   `json:"backDetail,omitempty"`
	// Listening tells whether a socket waits there; Sockets lists those of other ports.
	Listening Tri      `json:"listening"`
	Sockets   []string `json:"otherSockets,omitempty"`
}

// Tri is yes, no or not known.
type Tri string

// The values of Tri.
const (
	Yes      Tri = "yes"
	No       Tri = "no"
	NotKnown Tri = "not known"
)

// Flow is a tracked connection.
type Flow struct {
	Src, Dst netip.AddrPort
	// To is where it is sent to.
	To netip.AddrPort
	// Own: the back end of the proxy tracks it, not the kernel's connection tracking.
	Own bool
}

// Level tells how bad a Finding is.
type Level string

// The levels.
const (
	Broken  Level = "broken"
	Unknown Level = "cannot tell"
	Note    Level = "note"
)

// Finding is one thing that was found.
type Finding struct {
	Level Level `json:"level"`
	// Cause is what is so, in one sentence; Mend how to change it.
	Cause string `json:"cause"`
	Mend  string `json:"mend,omitempty"`
}

// String is one line.
func (f Finding) String() string {
	s := string(f.Level) + ": " + f.Cause
	if f.Mend != "" {
		s += ". To mend: " + f.Mend
	}
	return s
}

func broken(cause, mend string) *Finding  { return &Finding{Broken, cause, mend} }
func unknown(cause, mend string) *Finding { return &Finding{Unknown, cause, mend} }
func note(cause, mend string) *Finding    { return &Finding{Note, cause, mend} }
