package serve

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// portOwner names the process that listens on a TCP port of this network
// namespace, as far as /proc tells.
func portOwner(port uint16) (string, bool) {
	inodes := listeningInodes(port)
	if len(inodes) == 0 {
		return "", false
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "", false
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(comm)), filepath.Base(dir)), true
	}
	return "", false
}

// listeningInodes returns the link targets ("socket:[123]") of the sockets that
// listen on port.
func listeningInodes(port uint16) map[string]bool {
	found := map[string]bool{}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if inode, ok := listeningInode(lines.Text(), port); ok {
				found["socket:["+inode+"]"] = true
			}
		}
		f.Close()
	}
	return found
}

// listeningInode reads one line of /proc/net/tcp: fields 1 and 3 are the local
// address and the state (0A is LISTEN), field 9 is the inode.
func listeningInode(line string, port uint16) (string, bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "0A" {
		return "", false
	}
	_, hexPort, ok := strings.Cut(fields[1], ":")
	if !ok {
		return "", false
	}
	b, err := hex.DecodeString(hexPort)
	if err != nil || len(b) != 2 {
		return "", false
	}
	return fields[9], uint16(b[0])<<8|uint16(b[1]) == port
}
