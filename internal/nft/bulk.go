package nft

// How much memory is taken at first and at most at once: it doubles.
const (
	leastBlock = 256
	mostBlock  = 16 << 10
)

// Bulk gives memory for the keys and data of many elements, a few large blocks for all of them. It is
// freed when the last of a block is. The zero value is ready for use.
type Bulk struct {
	free []byte
	took int
}

// Room gives an empty slice that n bytes can be appended to.
func (b *Bulk) Room(n int) []byte {
	if n > len(b.free) {
		b.took = min(max(2*b.took, leastBlock), mostBlock)
		b.free = make([]byte, max(n, b.took))
	}
	room := b.free[:0:n]
	b.free = b.free[n:]
	return room
}
