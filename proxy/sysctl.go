package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"nodelet/internal/netns"
)

// Conntrack are the settings of connection tracking, with kube-proxy's
// meaning. A zero leaves the kernel's as it is.
type Conntrack struct {
	// MaxPerCore and Min make the size of the table: the larger of both, the
	// first times the number of CPUs. MaxPerCore 0 leaves it as it is.
	MaxPerCore, Min int
	// Times a connection is remembered without packets.
	TCPEstablished, TCPCloseWait, UDP, UDPStream time.Duration
	// TCPBeLiberal takes packets outside of the window for valid.
	TCPBeLiberal bool
}

// DefaultConntrack is kube-proxy's.
func DefaultConntrack() Conntrack {
	return Conntrack{MaxPerCore: 32 << 10, Min: 128 << 10, TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour}
}

// maxConntrack bounds what MaxPerCore makes on machines with many CPUs: an entry costs about 300 bytes.
const maxConntrack = 1 << 20

const (
	keyMax        = "netfilter/nf_conntrack_max"
	keyLocalnet   = "ipv4/conf/all/route_localnet"
	hashsizeFile  = "/sys/module/nf_conntrack/parameters/hashsize"
	perHashBucket = 4
)

// sysctl is one setting; raise: it is only ever made larger.
type sysctl struct {
	key   string
	value int
	raise bool
}

// sysctls lists what the configuration asks for, on so many CPUs. Pure.
func (c *Config) sysctls(cpus int) (out []sysctl) {
	ct := c.Conntrack
	if ct.MaxPerCore > 0 {
		out = append(out, sysctl{keyMax, max(ct.Min, min(ct.MaxPerCore*cpus, maxConntrack)), true})
	}
	for _, t := range []struct {
		key string
		d   time.Duration
	}{
		{"tcp_timeout_established", ct.TCPEstablished}, {"tcp_timeout_close_wait", ct.TCPCloseWait},
		{"udp_timeout", ct.UDP}, {"udp_timeout_stream", ct.UDPStream},
	} {
		if seconds := int(t.d / time.Second); seconds > 0 {
			out = append(out, sysctl{key: "netfilter/nf_conntrack_" + t.key, value: seconds})
		}
	}
	if ct.TCPBeLiberal {
		out = append(out, sysctl{key: "netfilter/nf_conntrack_tcp_be_liberal", value: 1})
	}
	if c.LocalhostNodePorts {
		out = append(out, sysctl{key: keyLocalnet, value: 1})
	}
	return out
}

// setSysctls writes what differs and tells what it did. What cannot be written,
// in a container with a read-only /proc/sys, is said and lived with.
func (c *Config) setSysctls(log *slog.Logger) {
	for _, s := range c.sysctls(runtime.NumCPU()) {
		changed, err := s.apply(c.NetNS)
		switch {
		case errors.Is(err, os.ErrNotExist):
			log.Debug("this kernel has no such setting", "sysctl", "net/"+s.key)
		case err != nil:
			log.Warn("set sysctl", "err", err)
		case changed:
			log.Info("set sysctl", "sysctl", "net/"+s.key, "value", s.value)
		}
		if changed && s.key == keyMax {
			growHash(s.value/perHashBucket, log)
		}
	}
}

func (s sysctl) apply(fd int) (changed bool, err error) {
	write := func() error {
		have, err := netns.ReadSysctl(s.key)
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(have); err == nil && s.raise && n >= s.value {
			return nil
		}
		changed, err = netns.WriteSysctl(s.key, strconv.Itoa(s.value))
		return err
	}
	if fd <= 0 {
		return changed, write()
	}
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return false, err
	}
	defer func() { _ = ns.Close() }()
	err = ns.Do(write)
	return changed, err
}

// growHash keeps the chains of the table's hash short.
func growHash(buckets int, log *slog.Logger) {
	b, err := os.ReadFile(hashsizeFile)
	if err != nil {
		return // built in without parameters, or no sysfs
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n >= buckets {
		return
	}
	if err := os.WriteFile(hashsizeFile, []byte(strconv.Itoa(buckets)), 0o600); err != nil {
		log.Warn("grow the hash of connection tracking", "err", err)
	}
}
