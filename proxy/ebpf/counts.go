package ebpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"nodelet/proxy/lb"
)

// Counts gives what the programs have counted of each Service port since it
// was first written, by the frontend of its ClusterIP. Ports that had no
// traffic yet are left out. It changes nothing and may be called by any
// goroutine at any time.
func (b *Backend) Counts() (map[lb.Frontend]lb.Count, error) {
	k, err := openHeld(b.cfg.BPFFS, b.cookie)
	if err != nil {
		return nil, err
	}
	defer func() { _ = k.close() }()
	byPort, err := readCounters(k.maps.Counters)
	if err != nil {
		return nil, err
	}
	frontends, err := readMap[proxyFrontendKey, proxyFrontend](k.maps.Frontends)
	if err != nil {
		return nil, err
	}
	out := make(map[lb.Frontend]lb.Count, len(byPort))
	for key, v := range frontends {
		f := decodeFrontend(key)
		if f.Proto == 0 || v.Flags&uint8(proxyFrontendFlagsFRONTEND_CLUSTER_IP) == 0 {
			continue
		}
		if c, ok := byPort[v.Port]; ok {
			out[f] = c
		}
	}
	return out, nil
}

// readCounters sums what all processors have counted.
func readCounters(m *ebpf.Map) (map[uint32]lb.Count, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count processors: %w", err)
	}
	out := map[uint32]lb.Count{}
	sum := func(port uint32, of []proxyCounter) {
		var c lb.Count
		for _, v := range of {
			c.Connections += v.Connections
			c.Packets += v.Packets
			c.Bytes += v.Bytes
		}
		out[port] = c
	}
	keys, values := make([]uint32, chunk), make([]proxyCounter, chunk*cpus)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			sum(keys[i], values[i*cpus:(i+1)*cpus])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return out, nil
		}
		if err != nil {
			break // no batches, or too many in one bucket
		}
	}
	var port uint32
	one := make([]proxyCounter, cpus)
	all := m.Iterate()
	for all.Next(&port, &one) {
		sum(port, one)
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("read map %s: %w", m, err)
	}
	return out, nil
}
