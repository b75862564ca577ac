package netns

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// States of sockets in /proc/net: a TCP socket that listens, and a UDP socket
// that is not connected (TCP_LISTEN and TCP_CLOSE).
var waiting = map[string]string{"tcp": "0A", "udp": "07"}

// Listeners lists where sockets of the calling thread's namespace wait for a
// protocol, "tcp" or "udp", in both families. One on :: takes IPv4 as well
// unless it says otherwise, which cannot be seen here.
func Listeners(protocol string) ([]netip.AddrPort, error) {
	state, ok := waiting[protocol]
	if !ok {
		return nil, fmt.Errorf("list sockets of protocol %q: only tcp and udp are known", protocol)
	}
	var out []netip.AddrPort
	for _, suffix := range []string{"", "6"} {
		found, err := readSockets("/proc/thread-self/net/"+protocol+suffix, state)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel booted with ipv6.disable=1
		}
		if err != nil {
			return nil, fmt.Errorf("list %s sockets: %w", protocol, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func readSockets(path, state string) (out []netip.AddrPort, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		if a, ok := parseSocket(fields[1]); ok {
			out = append(out, a)
		}
	}
	return out, lines.Err()
}

// parseSocket reads "0100007F:1F90": words of 32 bits in host order, and a port.
func parseSocket(text string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	if isLittleEndian() {
		for i := 0; i < len(b); i += 4 {
			slices.Reverse(b[i : i+4])
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(n)), true
}

func isLittleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }
