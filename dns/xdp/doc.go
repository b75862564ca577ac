// Package xdp answers questions for names of the cluster in the kernel, where
// the packets of pods arrive, with the bytes that dns/zone packed. It decides
// nothing: what it does not understand, or does not have, goes on to the
// sockets of package dns, which would have given the same answer. Part of the
// flow "DNS query -> answer": slot.go (an answer in the kernel's layout, pure),
// table.go (which slot has which name, pure but for the writes it is given),
// apply.go (maps and program), devices.go (where the program runs), bpf/ (the
// program).
//
// Touches: eBPF maps and one program, attached in generic mode to the veth
// devices of the network namespace it was started in. Nothing is pinned: it all
// ends with the process, and questions reach the sockets again.
//
// What is answered: IPv4 UDP without VLAN tag, options or fragments; one
// question of class IN for A, AAAA, SRV, TXT, MX or HTTPS; no EDNS, or one OPT
// record of version 0 with any options; names of at most 96 bytes in wire form
// whose records fit 256 bytes, so that no reply is ever cut. Names that do not
// exist, reverse names, pod records, ExternalNames and all else are not.
//
// Invariants:
//   - A reply has the bytes that zone.Answer writes for the same question.
//   - A name's records are written before the name refers to them, and not
//     written again until a second after it ceased to: a packet in flight never
//     sees half an answer or another name's.
//   - What is not in step with the zone is not attached.
package xdp
