package ipam

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nodelet/cni/linkplan"
)

// ErrFormat says that a text is not a state, or of another version.
var ErrFormat = errors.New("not a state of this version")

// header is the first line, the boot id follows it. Lines and tabs instead of
// JSON: a node's 110 leases are read for every pod, and this takes a tenth of
// the time. Later lines win over earlier ones, so that a change is a few lines
// at the end (Changes) and the file needs not be written anew.
const header = "nodelet-cni 1"

// A lease with limits has one field more, so that older programs can read those without.
const leaseFields = 8

// Marshal is the whole state as text: header, last addresses, one line per lease.
func (s State) Marshal() ([]byte, error) {
	text, err := Changes(State{}, s)
	return append([]byte(header+"\t"+s.Boot+"\n"), text...), err
}

// Changes are the lines that lead from the text of old to that of next.
func Changes(old, next State) ([]byte, error) {
	var b bytes.Buffer
	for _, a := range next.Last {
		if !slices.Contains(old.Last, a) {
			b.WriteString("last\t" + a.String() + "\n")
		}
	}
	for _, l := range old.Leases {
		if _, ok := next.find(l.Veth); !ok {
			b.WriteString("gone\t" + l.Veth + "\n")
		}
	}
	for _, l := range next.Leases {
		if had, ok := old.Lease(l.Veth); ok && had.equal(l) {
			continue
		}
		if err := l.appendLine(&b); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func (l Lease) appendLine(b *bytes.Buffer) error {
	fields := []string{"lease", l.Veth, join(l.Addrs, netip.Addr.String), l.ContainerID, l.IfName, l.Netns, l.Pod, l.PodUID, join(l.Ports, Port.String)}
	if l.Bandwidth != (linkplan.Bandwidth{}) {
		fields = append(fields, l.Bandwidth.Text())
	}
	for i, f := range fields {
		if strings.ContainsFunc(f, func(r rune) bool { return r < ' ' }) {
			return fmt.Errorf("write lease of %s: field %q holds a control character", l.Veth, f)
		}
		if i > 0 {
			b.WriteByte('\t')
		}
		b.WriteString(f)
	}
	b.WriteByte('\n')
	return nil
}

// Unmarshal reads a text and says how many lines it has. What follows the
// last newline is a change whose writer was killed, and is ignored. Every
// error wraps ErrFormat.
func Unmarshal(text []byte) (s State, lines int, err error) {
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	boot, ok := strings.CutPrefix(string(head), header+"\t")
	if !ok || !bytes.Contains(text, []byte("\n")) {
		return State{}, 0, fmt.Errorf("read attachments: first line %.40q: %w", head, ErrFormat)
	}
	s.Boot = boot
	leases := map[string]Lease{}
	for line := range strings.Lines(string(rest)) {
		line, whole := strings.CutSuffix(line, "\n")
		if !whole {
			break
		}
		lines++
		if err := s.readLine(leases, strings.Split(line, "\t")); err != nil {
			return State{}, 0, fmt.Errorf("read attachments: line %d: %w: %w", lines+1, err, ErrFormat)
		}
	}
	s.Leases = slices.SortedFunc(maps.Values(leases), func(a, b Lease) int { return strings.Compare(a.Veth, b.Veth) })
	return s, lines, nil
}

func (s *State) readLine(leases map[string]Lease, f []string) error {
	switch {
	case f[0] == "last" && len(f) == 2:
		a, err := netip.ParseAddr(f[1])
		s.Last = withLast(s.Last, a)
		return err
	case f[0] == "gone" && len(f) == 2:
		delete(leases, f[1])
		return nil
	case f[0] == "lease" && (len(f) == leaseFields+1 || len(f) == leaseFields+2):
		addrs, err := split(f[2], netip.ParseAddr)
		if err != nil {
			return err
		}
		ports, err := split(f[8], parsePort)
		if err != nil {
			return err
		}
		l := Lease{Veth: f[1], Addrs: addrs, ContainerID: f[3], IfName: f[4],
			Netns: f[5], Pod: f[6], PodUID: f[7], Ports: ports}
		if len(f) > leaseFields+1 {
			l.Bandwidth, err = linkplan.ParseBandwidth(f[leaseFields+1])
		}
		leases[f[1]] = l
		return err
	}
	return fmt.Errorf("unknown line %.40q with %d fields", f[0], len(f))
}

// parsePort reads the form that Port.String writes.
func parsePort(text string) (Port, error) {
	var p Port
	bad := fmt.Errorf("port %q is not proto/address/number->number", text)
	f := strings.Split(text, "/")
	if len(f) != 3 {
		return p, bad
	}
	host, pod, ok := strings.Cut(f[2], "->")
	h, err1 := strconv.ParseUint(host, 10, 16)
	c, err2 := strconv.ParseUint(pod, 10, 16)
	if !ok || err1 != nil || err2 != nil {
		return p, bad
	}
	p = Port{Proto: f[0], HostPort: uint16(h), PodPort: uint16(c)}
	if f[1] != "*" {
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			return p, bad
		}
		p.HostIP = a
	}
	return p, nil
}

func join[T any](list []T, text func(T) string) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = text(v)
	}
	return strings.Join(parts, ",")
}

func split[T any](text string, parse func(string) (T, error)) ([]T, error) {
	if text == "" {
		return nil, nil
	}
	var out []T
	for part := range strings.SplitSeq(text, ",") {
		v, err := parse(part)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
