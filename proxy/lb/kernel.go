package lb

import "net/netip"

// Kernel is what a back end has found in the kernel about one frontend, beside
// what a State says of it.
type Kernel struct {
	// Backend is its name: nftables, iptables, ipvs or ebpf.
	Backend string `json:"backend"`
	// InRules: its translation is made by rules of nf_tables or iptables, or by
	// IPVS, so that whoever follows a packet through those (package sim) meets it.
	InRules bool `json:"inRules"`
	// Holds are the kernel's entries about the frontend, close to how the
	// kernel's own tools print them.
	Holds []string `json:"holds,omitempty"`
	// Differences from the State that packets to the frontend can meet, the
	// widest first: a missing table before a missing element.
	Differences []Difference `json:"differences,omitempty"`
	// Elsewhere counts the differences that only other frontends can meet.
	Elsewhere int `json:"differencesElsewhere,omitempty"`
	// Flows are the connections to the frontend that the back end tracks by
	// itself: those that go on as they are.
	Flows []Flow `json:"flows,omitempty"`
	// LastChange says who changed the rules last, as far as the kernel tells.
	LastChange string `json:"lastChange,omitempty"`
}

// Flow is a connection that a back end tracks by itself.
type Flow struct {
	Src netip.AddrPort `json:"src"`
	Dst netip.AddrPort `json:"dst"`
	// To is where it is sent to.
	To netip.AddrPort `json:"to"`
}

// Difference is one object of the kernel that is not as the State says.
type Difference struct {
	Kind DifferenceKind `json:"kind"`
	// Object names it: "map endpoints of table ip nodelet-proxy: 0 . 10.96.0.1 . 6 . 80".
	Object string `json:"object"`
	// Effect is what it does to packets.
	Effect string `json:"effect"`
}

// String is one line.
func (d Difference) String() string { return string(d.Kind) + ": " + d.Object + " (" + d.Effect + ")" }

// DifferenceKind tells what is wrong with an object.
type DifferenceKind string

// The kinds of differences.
const (
	// Missing: wanted, and not there.
	Missing DifferenceKind = "missing"
	// Foreign: there, among our own objects, and not wanted.
	Foreign DifferenceKind = "foreign"
	// Altered: there, but not as wanted.
	Altered DifferenceKind = "altered"
)

// Shortcut is a link where a back end forwards packets of known connections
// before the kernel's own way begins.
type Shortcut struct {
	Link string `json:"link"`
	On   bool   `json:"on"`
	// Why says why it is not on, or what it cannot do; empty when it does all.
	Why string `json:"why,omitempty"`
}
