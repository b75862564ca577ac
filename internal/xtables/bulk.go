package xtables

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"nodelet/internal/netns"
)

// ErrLocked says that another program held the lock of iptables all the time.
var ErrLocked = errors.New("another program holds the lock of iptables (/run/xtables.lock)")

// Bulk reads and writes whole tables of one variant and family at once.
type Bulk struct {
	name, list, save, restore string
	variant                   Variant
	v6                        bool
	ns                        *netns.NS
}

// OpenBulk finds the programs of a variant. netnsFD is a file descriptor of
// the network namespace to work in; 0 is the process's own. Without the
// programs the error wraps ErrNotInstalled.
func OpenBulk(v Variant, v6 bool, netnsFD int) (*Bulk, error) {
	b := &Bulk{name: program(v, v6), variant: v, v6: v6}
	for suffix, path := range map[string]*string{"": &b.list, "-save": &b.save, "-restore": &b.restore} {
		found, err := exec.LookPath(b.name + suffix)
		if err != nil {
			return nil, fmt.Errorf("find %s%s: %w (Debian package iptables)", b.name, suffix, ErrNotInstalled)
		}
		*path = found
	}
	if netnsFD > 0 {
		ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", netnsFD))
		if err != nil {
			return nil, err
		}
		b.ns = ns
	}
	return b, nil
}

func program(v Variant, v6 bool) string {
	if v6 {
		return "ip6tables-" + string(v)
	}
	return "iptables-" + string(v)
}

// String is the name of the program.
func (b *Bulk) String() string { return b.name }

// Close lets go of the namespace.
func (b *Bulk) Close() error {
	if b.ns == nil {
		return nil
	}
	return b.ns.Close()
}

// Save gives a table as iptables-save prints it; nothing when it is not there.
// Unlike the program it does not make a legacy table by looking at it.
func (b *Bulk) Save(ctx context.Context, table string) (out []byte, err error) {
	err = b.inside(func() error {
		if b.variant == Legacy && !InUse(table, b.v6) {
			return nil
		}
		out, err = b.run(exec.CommandContext(ctx, b.save, "-t", table))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s table %s: %w", b.name, table, err)
	}
	return out, nil
}

// Counted gives how many packets each rule of a chain has matched, by the rule as Save prints it.
func (b *Bulk) Counted(ctx context.Context, table, chain string) (packets map[string]uint64, err error) {
	var out []byte
	err = b.inside(func() error {
		if b.variant == Legacy && !InUse(table, b.v6) {
			return nil
		}
		out, err = b.run(exec.CommandContext(ctx, b.list, "-w", fmt.Sprint(lockWait), "-t", table, "-v", "-S", chain))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the counters of %s chain %s: %w", b.name, chain, err)
	}
	packets = map[string]uint64{}
	for line := range strings.Lines(string(out)) {
		rule, isRule := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-A "+chain+" ")
		m := counters.FindStringSubmatch(rule)
		if !isRule || m == nil {
			continue
		}
		n, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the counters of %s chain %s: %w", b.name, chain, err)
		}
		packets[strings.TrimSuffix(counters.ReplaceAllString(rule, " "), " ")] += n
	}
	return packets, nil
}

// counters are packets and bytes in a rule, before its target.
var counters = regexp.MustCompile(` -c (\d+) \d+(?: |$)`)

// Restore runs lines of iptables-restore: each table is one transaction, and
// chains that are not named stay as they are. It waits for the lock for lockWait
// seconds; then the error wraps ErrLocked.
func (b *Bulk) Restore(ctx context.Context, lines []byte) error {
	err := b.inside(func() error {
		args := []string{"--noflush"}
		if b.variant == Legacy {
			args = append(args, "-w", fmt.Sprint(lockWait))
		}
		cmd := exec.CommandContext(ctx, b.restore, args...)
		cmd.Stdin = bytes.NewReader(lines)
		_, err := b.run(cmd)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s rules: %w", b.name, err)
	}
	return nil
}

func (b *Bulk) inside(f func() error) error {
	if b.ns == nil {
		return f()
	}
	return b.ns.Do(f)
}

// exitLocked is the code with which iptables says that it did not get the lock.
const exitLocked = 4

func (b *Bulk) run(cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.Bytes(), nil
	case errors.As(err, &exit) && exit.ExitCode() == exitLocked && strings.Contains(errs.String(), "lock"):
		return nil, fmt.Errorf("%w: %s", ErrLocked, firstLine(errs.String()))
	}
	return nil, fmt.Errorf("%w: %s", err, firstLine(errs.String()))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// Size is how much a legacy table holds: it changes whenever somebody adds or
// removes a rule, and costs one system call.
type Size struct{ Entries, Bytes uint32 }

// getInfo is IPT_SO_GET_INFO and IP6T_SO_GET_INFO of linux/netfilter_ipv4/ip_tables.h.
const getInfo = 64

// Size asks for the size of a legacy table; the zero Size when it is not there.
func (b *Bulk) Size(table string) (s Size, err error) {
	err = b.inside(func() error {
		if b.variant != Legacy || !InUse(table, b.v6) {
			return nil
		}
		family, level := unix.AF_INET, unix.IPPROTO_IP
		if b.v6 {
			family, level = unix.AF_INET6, unix.IPPROTO_IPV6
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		// struct ipt_getinfo: name[32], valid_hooks, hook_entry[5], underflow[5], num_entries, size.
		var info [84]byte
		copy(info[:31], table)
		size := uint32(len(info))
		if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
			uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
			return errno
		}
		s = Size{binary.NativeEndian.Uint32(info[76:]), binary.NativeEndian.Uint32(info[80:])}
		return nil
	})
	if err != nil {
		return Size{}, fmt.Errorf("ask for the size of %s table %s: %w", b.name, table, err)
	}
	return s, nil
}

// Detect gives the variant that this machine uses: the one a kubelet has left
// its hint in, or else the one that the program iptables stands for.
func Detect(ctx context.Context, netnsFD int) (Variant, error) {
	var first error
	for _, v := range []Variant{NFT, Legacy} {
		b, err := OpenBulk(v, false, netnsFD)
		if err != nil {
			first = errors.Join(first, err)
			continue
		}
		out, err := b.Save(ctx, "mangle")
		_ = b.Close()
		if err == nil && (bytes.Contains(out, []byte(":KUBE-IPTABLES-HINT ")) || bytes.Contains(out, []byte(":KUBE-KUBELET-CANARY "))) {
			return v, nil
		}
	}
	if out, err := exec.CommandContext(ctx, "iptables", "-V").Output(); err == nil {
		if bytes.Contains(out, []byte("nf_tables")) {
			return NFT, nil
		}
		return Legacy, nil
	}
	for _, v := range []Variant{NFT, Legacy} {
		if b, err := OpenBulk(v, false, netnsFD); err == nil {
			return v, b.Close()
		}
	}
	return "", first
}
