package proc

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Listener is a socket somebody listens on.
type Listener struct {
	Addr netip.AddrPort
	// PID and Program are zero when the owner cannot be told.
	PID     int
	Program string
}

// String is "address by program (pid n)".
func (l Listener) String() string {
	if l.PID == 0 {
		return l.Addr.String() + " by an unknown process"
	}
	return fmt.Sprintf("%s by %s (pid %d)", l.Addr, l.Program, l.PID)
}

// Listeners gives the sockets of a network ("tcp" or "udp") that occupy a port
// in this network namespace.
func Listeners(network string, port uint16) []Listener {
	var out []Listener
	owners := map[string]int{} // inode -> index in out
	for _, family := range []string{"", "6"} {
		// thread-self: the main thread, which /proc/net shows, may be parked in a namespace made by netns.New.
		f, err := os.Open("/proc/thread-self/net/" + network + family)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 {
				continue
			}
			// State 0A is LISTEN; an unconnected UDP socket has 07.
			addr, ok := parseSocket(fields[1])
			if !ok || addr.Port() != port || !slices.Contains([]string{"0A", "07"}, fields[3]) {
				continue
			}
			owners[fields[9]] = len(out)
			out = append(out, Listener{Addr: addr})
		}
		_ = f.Close()
	}
	if len(out) > 0 {
		nameOwners(out, owners)
	}
	return out
}

// nameOwners finds by their file descriptors who holds the sockets.
func nameOwners(out []Listener, owners map[string]int) {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(link, "socket:[") {
			continue
		}
		i, ok := owners[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")]
		if !ok || out[i].PID != 0 {
			continue
		}
		out[i].PID, _ = strconv.Atoi(strings.Split(fd, "/")[2])
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", out[i].PID))
		out[i].Program = strings.TrimSpace(string(name))
	}
}

// parseSocket reads the kernel's form: address as hexadecimal words in host
// order (little endian on all platforms we build for), colon, port.
func parseSocket(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || err2 != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), ok
}
