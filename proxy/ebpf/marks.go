package ebpf

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"nodelet/proxy/lb"
)

// Marks tell the programs what is certainly in no map: see bpf/marks.h. Here
// those are written that the programs do not write themselves. They are never
// taken away: one too many only costs a look.

// marksComplete is the element that tells that everything has its mark, and
// mostBlocks how many marks a range of ClusterIPs may take (/8 of IPv4, /52 of
// IPv6): with a larger one marks are never complete.
const (
	marksComplete = 0
	mostBlocks    = 4096
)

// markSet is which elements of map marks are known to be set, a bit for each.
type markSet []uint64

func (m markSet) has(mark uint32) bool { return m[mark/64]&(1<<(mark%64)) != 0 }
func (m markSet) set(mark uint32)      { m[mark/64] |= 1 << (mark % 64) }

// markOf is mark_of of bpf/marks.h.
func markOf(what proxyMark, a proxyAddr, port uint16) uint32 {
	high, low := uint64(a.W[0])<<32|uint64(a.W[1]), uint64(a.W[2])<<32|uint64(a.W[3])
	hash := (high+uint64(what))*0xff51afd7ed558ccd + low*0xc4ceb9fe1a85ec53 + uint64(port)*0x2545f4914f6cdd1d
	hash ^= hash >> 32
	return 1 + uint32(hash*0x9e3779b97f4a7c15>>47)
}

// markOfFlow is that of the end of a flow that is a Service's, as mark_flow of bpf/marks.h finds it.
func markOfFlow(t *proxyTuple, f *proxyFlow) uint32 {
	if proxyFlowFlags(f.Flags)&proxyFlowFlagsFLOW_REPLY != 0 {
		return markOf(proxyMarkMARK_SOURCE, t.Src, t.Sport)
	}
	return markOf(proxyMarkMARK_DESTINATION, t.Dst, t.Dport)
}

// marksOfRange are those of the blocks of a range of ClusterIPs; false when they are too many.
func marksOfRange(p netip.Prefix) ([]uint32, bool) {
	bits := 20
	if p.Addr().Is6() {
		bits = 64
	}
	free := max(0, bits-p.Bits())
	if 1<<min(free, 32) > mostBlocks {
		return nil, false
	}
	first := p.Masked().Addr()
	out := make([]uint32, 0, 1<<free)
	for i := range uint64(1) << free {
		out = append(out, markOf(proxyMarkMARK_BLOCK, block(first, bits, i), 0))
	}
	return out, true
}

// block is the i-th block from an address on, as block_of of bpf/marks.h finds it.
func block(first netip.Addr, bits int, i uint64) proxyAddr {
	b := first.As16()
	if first.Is4() {
		four := binary.BigEndian.Uint32(b[12:])>>(32-bits) + uint32(i)
		binary.BigEndian.PutUint32(b[12:], four<<(32-bits))
		return encodeAddr(netip.AddrFrom16(b))
	}
	binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+i)
	clear(b[8:])
	return encodeAddr(netip.AddrFrom16(b))
}

// marksOfState are those of the ranges of ClusterIPs of a State, and of its
// frontends elsewhere; false when the ranges are too large.
func marksOfState(s *lb.State) (out []uint32, all bool) {
	all = true
	for _, p := range clusterRanges(s.Config()) {
		blocks, ok := marksOfRange(p)
		out, all = append(out, blocks...), all && ok
	}
	return marksOfFrontends(out, s.Config(), func(yield func(netip.Addr) bool) {
		for f := range s.All() {
			if !yield(f.Addr) {
				return
			}
		}
	}), all
}

func clusterRanges(cfg *lb.Config) []netip.Prefix {
	return slices.Concat(cfg.ServiceRanges(false), cfg.ServiceRanges(true))
}

// marksOfFrontends adds those of frontends' addresses that are in no range.
func marksOfFrontends(to []uint32, cfg *lb.Config, addrs iter.Seq[netip.Addr]) []uint32 {
	ranges := clusterRanges(cfg)
	for a := range addrs {
		if !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) }) {
			to = append(to, markOf(proxyMarkMARK_FRONTEND, encodeAddr(a), 0))
		}
	}
	return to
}

// markFrontends marks frontends that are about to be written.
func (k *kernel) markFrontends(cfg *lb.Config, keys []proxyFrontendKey) error {
	return k.mark(marksOfFrontends(nil, cfg, func(yield func(netip.Addr) bool) {
		for i := range keys {
			if !yield(decodeAddr(keys[i].Addr)) {
				return
			}
		}
	}))
}

// marksOfLocals are those of the node's addresses, where node ports answer too.
func marksOfLocals(locals map[proxyAddr]proxyLocal) []uint32 {
	out := make([]uint32, 0, 2*len(locals))
	for a := range locals {
		out = append(out, markOf(proxyMarkMARK_LOCAL, a, 0), markOf(proxyMarkMARK_FRONTEND, a, 0))
	}
	return out
}

// mark sets marks that are not known to be set.
func (k *kernel) mark(marked []uint32) error {
	p := &puts[uint32, uint32]{}
	for _, mark := range marked {
		if !k.marked.has(mark) {
			k.marked.set(mark)
			p.add(mark, 1)
		}
	}
	if err := (bpfTable[uint32, uint32]{k.maps.Marks}).put(p); err != nil {
		clear(k.marked)
		return err
	}
	return nil
}

// setMarksComplete tells the programs whether they may trust the marks.
func (k *kernel) setMarksComplete(complete bool) error {
	p := &puts[uint32, uint32]{}
	p.add(marksComplete, map[bool]uint32{true: 1}[complete])
	return (bpfTable[uint32, uint32]{k.maps.Marks}).put(p)
}

// markAll marks all of a State before it is written.
func (k *kernel) markAll(s *lb.State) error {
	marked, all := marksOfState(s)
	if !all {
		if err := k.setMarksComplete(false); err != nil {
			return err
		}
	}
	return k.mark(marked)
}

// completeMarks marks what was there before, once programs are in mark that
// mark what comes, and has them trust that.
func (k *kernel) completeMarks(s *lb.State) error {
	if _, all := marksOfState(s); !all {
		return nil
	}
	if !k.fresh {
		if err := k.markFlows(); err != nil {
			return err
		}
	}
	return k.setMarksComplete(true)
}

// markFlows marks what was tracked by programs that knew of no marks. They are not in mark any more.
func (k *kernel) markFlows() error {
	flows, err := readMap[proxyTuple, proxyFlow](k.maps.Flows)
	if err != nil {
		return err
	}
	var marked []uint32
	for t, f := range flows {
		marked = append(marked, markOfFlow(&t, &f))
	}
	return k.mark(marked)
}

// markedAll tells whether the kernel has the marks of a State, and of the
// node's addresses, and trusts them as it may.
func (k *kernel) markedAll(s *lb.State, locals map[proxyAddr]proxyLocal) bool {
	marked, all := marksOfState(s)
	found := newMarks(k.maps.Marks)
	_, err := scan(k.maps.Marks, func(mark, set *uint32) bool {
		if *set != 0 {
			found.set(*mark)
		}
		return true
	})
	if err != nil || found.has(marksComplete) != all {
		return false
	}
	for _, mark := range append(marked, marksOfLocals(locals)...) {
		if !found.has(mark) {
			return false
		}
	}
	return true
}

func newMarks(of *ebpf.Map) markSet { return make(markSet, (of.MaxEntries()+63)/64) }
