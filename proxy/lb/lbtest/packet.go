package lbtest

import (
	"fmt"
	"net/netip"
	"strings"

	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// ParsePacket reads "SOURCE ADDR -> ADDR:PORT/PROTOCOL" with the sources pod,
// node and outside; a trailing "(this node)" says that the destination is the
// node's own.
func ParsePacket(line string) (p eval.Packet, err error) {
	line, p.ToNode = strings.CutSuffix(strings.TrimSpace(line), " (this node)")
	var from, src, dst string
	if n, _ := fmt.Sscanf(line, "%s %s -> %s", &from, &src, &dst); n != 3 {
		return p, fmt.Errorf("not a packet: %q", line)
	}
	sources := map[string]lb.Source{"pod": lb.FromPod, "node": lb.FromNode, "outside": lb.FromOutside}
	var ok bool
	if p.From, ok = sources[from]; !ok {
		return p, fmt.Errorf("unknown source %q", from)
	}
	if p.Src, err = netip.ParseAddr(src); err != nil {
		return p, err
	}
	at := strings.LastIndexByte(dst, ':')
	if at < 0 {
		return p, fmt.Errorf("not a destination: %q", dst)
	}
	a, err := netip.ParseAddr(strings.Trim(dst[:at], "[]"))
	if err != nil {
		return p, err
	}
	port, _, err := parsePort("x" + dst[at:])
	p.Dst, p.Proto = netip.AddrPortFrom(a, port.Port), port.Protocol
	return p, err
}
