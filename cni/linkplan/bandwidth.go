package linkplan

import (
	"fmt"
	"math"
	"strings"
)

// Bandwidth limits what a pod receives (Ingress) and sends (Egress).
type Bandwidth struct {
	Ingress Limit `json:"ingress"`
	Egress  Limit `json:"egress"`
}

// Limit is in bits a second, and bits; a Rate of 0 is none.
type Limit struct {
	Rate  uint64 `json:"rate"`
	Burst uint64 `json:"burst"`
}

// Shape is a token bucket: bytes a second, its size in bytes, and how many
// bytes may wait for tokens.
type Shape struct {
	Rate         uint64
	Burst, Limit uint32
}

const (
	// noBurst and more is what runtimes pass because pods cannot say it: the
	// 256 MB and 512 MB that this would be limit nothing for seconds to hours.
	noBurst = math.MaxInt32
	// leastBurst in bytes: some packets of the usual sizes.
	leastBurst = 32 << 10
	// perSecond is the part of a second's bytes that a bucket holds by default,
	// and that may wait: 25 ms, as with the field's bandwidth plugin.
	perSecond = 40
)

// shape turns a limit into a token bucket for packets of that size; nil without a limit.
func (l Limit) shape(mtu int) *Shape {
	if l.Rate == 0 {
		return nil
	}
	s := &Shape{Rate: max(l.Rate/8, 1)}
	burst := l.Burst / 8
	if l.Burst == 0 || l.Burst >= noBurst {
		burst = max(s.Rate/perSecond, leastBurst)
	}
	// A bucket that never holds a packet lets none pass.
	burst = max(burst, uint64(2*mtu))
	s.Burst = uint32(min(burst, math.MaxUint32))
	s.Limit = uint32(min(burst+s.Rate/perSecond, math.MaxUint32))
	return s
}

// String is one phrase.
func (s *Shape) String() string {
	return fmt.Sprintf("rate %d bytes/s burst %d limit %d", s.Rate, s.Burst, s.Limit)
}

// ifbPrefix begins the names of the links that shape what pods send.
const ifbPrefix = "bw"

// IfbName is the link through which what a host end receives is shaped.
func IfbName(veth string) string { return ifbPrefix + strings.TrimPrefix(veth, vethPrefix) }

// VethOf is the host end that an ifb link of that name belongs to.
func VethOf(ifb string) (veth string, ok bool) {
	rest, ok := strings.CutPrefix(ifb, ifbPrefix)
	return vethPrefix + rest, ok
}

// ParseBandwidth reads what Bandwidth.Text has written.
func ParseBandwidth(text string) (b Bandwidth, err error) {
	n, err := fmt.Sscanf(text, "%d/%d,%d/%d", &b.Ingress.Rate, &b.Ingress.Burst, &b.Egress.Rate, &b.Egress.Burst)
	if err != nil || n != 4 || b.Text() != text {
		return Bandwidth{}, fmt.Errorf("bandwidth %q is not rate/burst,rate/burst", text)
	}
	return b, nil
}

// Text is the short form for the node's state: ingress, then egress.
func (b Bandwidth) Text() string {
	return fmt.Sprintf("%d/%d,%d/%d", b.Ingress.Rate, b.Ingress.Burst, b.Egress.Rate, b.Egress.Burst)
}
