package ebpf

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// openEnded loads the program that ends sockets; nil where the kernel cannot
// (before 6.5). There the node's own connected UDP sockets go on with an
// endpoint that has left until their owner connects anew. Pods' never do: they
// are not bound to an endpoint.
func openEnded(maps *proxyMaps) (*ebpf.Program, error) {
	spec, err := loadEnded()
	if err != nil {
		return nil, fmt.Errorf("read the compiled eBPF programs: %w", err)
	}
	known := map[string]*ebpf.Map{"members": maps.Members, "peers": maps.Peers}
	for name := range spec.Maps {
		if known[name] == nil && name[0] != '.' {
			delete(spec.Maps, name) // it is in the file, but not in this program
		}
	}
	all, err := loadOver(spec, known)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	return all.DetachProgram("ended"), nil
}

// canEnd tells whether sockets can be ended. The program is loaded by the first
// who asks: to find the types of the kernel in it takes 20 ms, which no start
// has to wait for.
func (k *kernel) canEnd() bool {
	if !k.endedTried {
		k.endedTried = true
		k.ended, _ = openEnded(&k.maps) // an old kernel, or one without its types: documented, and nothing to be done
	}
	return k.ended != nil
}

// endSockets ends the node's own UDP sockets that are connected to an endpoint
// that no longer serves, and gives the number of the others. The calling thread must be in the network namespace.
func (k *kernel) endSockets() (left int, err error) {
	if !k.canEnd() {
		return 0, nil
	}
	it, err := link.AttachIter(link.IterOptions{Program: k.ended})
	if err != nil {
		return 0, fmt.Errorf("end UDP sockets of endpoints that left: %w", err)
	}
	defer func() { _ = it.Close() }()
	all, err := it.Open()
	if err != nil {
		return 0, fmt.Errorf("end UDP sockets of endpoints that left: %w", err)
	}
	n, err := io.Copy(io.Discard, all) // a byte for each
	if err != nil {
		err = fmt.Errorf("end UDP sockets of endpoints that left: %w", err)
	}
	return int(n), errors.Join(err, all.Close())
}
