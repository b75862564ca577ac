package critest

import (
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kind is a way for a call to go wrong.
type Kind int

// The kinds of faults.
const (
	Slow   Kind = iota // the work is done after the delay; nothing is wrong but the time
	Refuse             // nothing is done; the caller gets an error
	Lose               // the work is done; the caller gets DeadlineExceeded
	Linger             // the caller gets DeadlineExceeded at once; the work is done after the delay
	Hang               // nothing happens until the caller gives up
)

func (k Kind) String() string {
	return [...]string{"slow", "refuse", "lose", "linger", "hang"}[k]
}

// Fault makes matching calls go wrong.
type Fault struct {
	Op    string        // the call's name; empty: any
	Key   string        // part of the object's name; empty: any
	Kind  Kind          //
	Delay time.Duration // for Slow and Linger
	Err   error         // for Refuse; nil: a gRPC status Unknown
	Times int           // how many calls; 0: one; below 0: all
}

func (f *Fault) matches(op, key string) bool {
	return (f.Op == op || f.Op == "" && op != eventOp) && strings.Contains(key, f.Key)
}

// eventOp is what an event is called where calls and events lose their way alike.
const eventOp = "event"

// faults decides which call gets which fault.
type faults struct {
	seed     uint64
	rate     float64
	maxDelay time.Duration
	scripted []Fault
	seen     map[string]uint64 // op and key -> calls so far
}

func newFaults(c Config) faults {
	return faults{seed: c.Seed, rate: c.FaultRate, maxDelay: c.MaxDelay, seen: map[string]uint64{}}
}

// Inject adds faults. The oldest that matches a call is used; scripted faults come before random ones.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range faults {
		if f.Times == 0 {
			f.Times = 1
		}
		if f.Err == nil {
			f.Err = status.Error(codes.Unknown, "injected fault")
		}
		s.faults.scripted = append(s.faults.scripted, f)
	}
}

// SetFaultRate changes the share of calls that go wrong by chance; 0 or less: none. Scripted faults
// stay.
func (s *Server) SetFaultRate(rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.rate = rate
}

// next decides on one call. A call without fault gets Slow without delay.
func (f *faults) next(op, key string) Fault {
	for i := range f.scripted {
		s := &f.scripted[i]
		if s.Times == 0 || !s.matches(op, key) {
			continue
		}
		if s.Times > 0 {
			s.Times--
		}
		return *s
	}
	id := op + " " + key
	f.seen[id]++
	dice := roll(f.seed, id, f.seen[id])
	if f.rate <= 0 || float64(dice%1_000_000)/1_000_000 >= f.rate {
		return Fault{}
	}
	dice = roll(dice, id, 0)
	fault := Fault{Kind: Slow, Delay: time.Duration(dice>>8) % f.maxDelay}
	kinds := []Kind{Slow, Refuse, Refuse, Lose, Linger}
	if readOnly(op) {
		kinds = kinds[:2]
	}
	fault.Delay = max(fault.Delay, -fault.Delay)
	switch fault.Kind = kinds[dice%uint64(len(kinds))]; {
	case fault.Kind != Refuse:
	case dice&0x80 == 0:
		fault.Err = status.Error(codes.Unavailable, "injected: connection reset")
	default:
		fault.Err = status.Error(codes.Unknown, "injected fault")
	}
	return fault
}

// readOnly calls leave nothing behind, so losing their answer is the same as refusing them.
func readOnly(op string) bool {
	return strings.HasPrefix(op, "List") || strings.Contains(op, "Stat") && op != "StartContainer" ||
		op == "Version" || op == "GetContainerEvents" || op == "RuntimeConfig" || op == "ImageFsInfo"
}

// roll is a hash for a random number: the same for the same arguments.
func roll(seed uint64, id string, n uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendUint(append(strconv.AppendUint(nil, seed, 16), id...), n, 16))
	x := h.Sum64()
	// FNV's low bits follow its input; this finaliser (splitmix64) spreads them.
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}
