package zone

import (
	"cmp"
	"strings"
)

// ref is one name an address stands for.
type ref struct {
	key  string // of the Service
	host string // hostname, or byAddr; empty for a cluster IP
}

// byAddr stands for the address as a label, which need not be kept. No label has a dot.
const byAddr = "."

func (r ref) compare(o ref) int {
	// A cluster IP goes before any endpoint and alone, see answerReverse.
	if c := cmp.Compare(min(len(r.host), 1), min(len(o.host), 1)); c != 0 {
		return c
	}
	if c := strings.Compare(r.key, o.key); c != 0 {
		return c
	}
	return strings.Compare(r.host, o.host)
}

// The refs of an address are kept in their order, each as two texts.

func appendRefs(dst []byte, list []ref) []byte {
	for _, r := range list {
		dst = appendText(appendText(dst, r.key), r.host)
	}
	return dst
}

// cutRef takes the first ref off what appendRefs wrote.
func cutRef(b []byte) (key, host, rest []byte) {
	key, rest = cutText(b)
	host, rest = cutText(rest)
	return key, host, rest
}

func readRefs(b []byte) (list []ref) {
	for len(b) > 0 {
		var key, host []byte
		key, host, b = cutRef(b)
		list = append(list, ref{string(key), string(host)})
	}
	return list
}
