package dns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// portOwner says which process has a socket on the address, or on all addresses, for people.
func portOwner(network string, at netip.AddrPort) string {
	for _, table := range []string{network, network + "6"} {
		inode, addr := findSocket("/proc/thread-self/net/"+table, at)
		if inode == "" {
			continue
		}
		return fmt.Sprintf("%s, which listens on %s", processOf(inode), addr)
	}
	return "a socket of another network namespace or a kernel service"
}

// findSocket gives the inode and address of a socket that keeps at from being bound.
func findSocket(table string, at netip.AddrPort) (inode string, addr netip.AddrPort) {
	file, err := os.Open(table)
	if err != nil {
		return "", netip.AddrPort{}
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		local, ok := parseProcAddr(f[1])
		const listening = "0A"
		if !ok || local.Port() != at.Port() || strings.Contains(table, "tcp") && f[3] != listening {
			continue
		}
		if a := local.Addr().Unmap(); a == at.Addr() || a.IsUnspecified() {
			return f[9], local
		}
	}
	return "", netip.AddrPort{}
}

// parseProcAddr reads "0A00600A:0035": words of the address in the byte order
// of the machine, port as a number.
func parseProcAddr(s string) (netip.AddrPort, bool) {
	text, portText, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(text)
	port, errPort := strconv.ParseUint(portText, 16, 16)
	if !ok || err != nil || errPort != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(port)), ok
}

// processOf finds the process that has a socket open.
func processOf(inode string) string {
	want := "socket:[" + inode + "]"
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err != nil || link != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("process %s (%s)", filepath.Base(dir), bytes.TrimSpace(name))
	}
	return "a process that is not visible from here (socket inode " + inode + ")"
}
