// Package ebpf is the back end that balances with programs of its own instead
// of the kernel's packet filter. It decides nothing about Services. Part of the
// flow EndpointSlice -> kernel: render.go (what a State is in map elements),
// diff.go (what has to change, and in which order), fit.go (what has no room),
// observe.go (what the maps hold), untouched.go (whether that is still so),
// loading.go and takeover.go (maps and programs, new or from another daemon),
// apply.go (writes them), attach.go and devices.go (where the programs run), bpf/
// (the programs), forward.go (the short way by XDP). probe.go is the trial of mode auto.
//
// Touches: the pins below /sys/fs/bpf/nodelet, BPF links on the root cgroup and
// on the network devices, on kernels before 6.6 clsact qdiscs there.
//
// # Two places
//
// A TCP socket of a pod or of the node that connects to a frontend is given
// its endpoint in connect(2); its packets need nothing (bpf/socket.h). All else
// is translated packet by packet at the devices, with flows of our own
// (bpf/flow.h): what comes from outside, UDP of pods, kernel clients, and
// whatever needs the client's address looked at or rewritten, for that is
// unknown before there is a packet. So the answer is always that of package eval.
//
// # Maps
//
//	frontends  address, port, protocol   -> port, what happens by source
//	ports      port                      -> numbers of endpoints, affinity
//	slots      port, slot                -> endpoint
//	members    port, endpoint            -> in which lists it is (UDP, affinity)
//	ranges     port, prefix              -> source ranges; port 0: the pods
//	locals     address                   -> the node's own
//	devices    link                      -> its layout, the node's address there
//	marks      hash                      -> whether a look into the others is worth it (bpf/marks.h)
//	flows clients fragments datagrams peers names   written by the programs
//
// A change of an endpoint is one or two elements, however many Services there are.
//
// Invariants:
//   - What an element refers to is written before it and removed after it:
//     between any two writes every new connection has an endpoint, old or new.
//   - An endpoint keeps its slot and a port its number as long as they stay.
//   - Established connections live in flows and in sockets: no change here ends one.
//   - A Port is in the maps whole or not at all (fit.go); where it is not, it is refused.
//   - What has no mark is in no map: marks are written first and never taken away.
//   - A flow is only found by all of its five numbers: a map that is full loses
//     the idlest flows, and never sends one elsewhere.
//   - Programs are replaced in their links: no packet meets none.
package ebpf
