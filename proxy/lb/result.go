package lb

import (
	"net/netip"

	"nodelet/internal/model"
)

// Result says what a back end did to make the kernel say what a State says.
type Result struct {
	// Full: the kernel was looked at as a whole; otherwise only changes were written.
	Full bool
	// Messages written to the kernel; 0 when nothing differed.
	Messages int
	// Gone are the frontends that Full found and that are not in the State:
	// what went while nobody was watching.
	Gone []Frontend
	// Tidy: nothing was out of order; what was written only removes what
	// earlier changes had left.
	Tidy bool
	// Refused are the Ports that found no room in the kernel.
	Refused []Refusal
	// Rules are those of a back end that writes rules for each Service: mode iptables.
	Rules []Rules
}

// Rules are those of one table, without the jumps that lead to them.
type Rules struct {
	Table string
	IPv6  bool
	// Total are there now, Written were written by this round.
	Total, Written int
}

// Count is what a back end has counted of one Port.
type Count struct {
	// Connections of TCP, and flows of UDP.
	Connections uint64 `json:"connections"`
	// Packets and Bytes in both directions, of what the back end translates
	// packet by packet.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Add gives the sum.
func (c Count) Add(o Count) Count {
	return Count{c.Connections + o.Connections, c.Packets + o.Packets, c.Bytes + o.Bytes}
}

// Refusal is a Port that found no room in the kernel: nothing of it is there,
// and connections to it are refused.
type Refusal struct {
	Service   model.Key
	Port      string
	ClusterIP netip.AddrPort
	// Reason names what is full and how to mend it.
	Reason string
}

// String is one line.
func (r Refusal) String() string {
	return r.Service.String() + " port " + r.Port + " (" + r.ClusterIP.String() + "): " + r.Reason
}
