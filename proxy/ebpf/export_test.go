package ebpf

// Cookie tells the network namespace of a back end.
func Cookie(b *Backend) uint64 { return b.cookie }

// EndsSockets tells why the back end cannot end sockets, after an Apply.
func EndsSockets(b *Backend) error { return b.kernel.endedErr }
