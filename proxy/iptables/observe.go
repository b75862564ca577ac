package iptables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// found is what is ours in one table.
type found struct {
	chains rules
	// jumps are the rules of built-in chains that lead to ours, as "CHAIN rule".
	jumps []string
}

// parse reads what iptables-save printed.
func parse(text []byte) found {
	f := found{chains: rules{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			if strings.HasPrefix(name, prefix) && f.chains[name] == nil {
				f.chains[name] = []string{}
			}
			continue
		}
		rest, ok := strings.CutPrefix(line, "-A ")
		if !ok {
			continue
		}
		name, rule, _ := strings.Cut(rest, " ")
		switch {
		case strings.HasPrefix(name, prefix):
			f.chains[name] = append(f.chains[name], rule)
		case strings.Contains(rule, " -j "+prefix) || strings.Contains(rule, " -g "+prefix) || strings.HasPrefix(rule, "-j "+prefix):
			f.jumps = append(f.jumps, rest)
		}
	}
	return f
}

// empty: nothing of ours is there.
func (f *found) empty() bool { return len(f.chains) == 0 && len(f.jumps) == 0 }

// frontends reads out of table nat which frontends there were.
func (f *found) frontends(ipv6 bool) (out []lb.Frontend) {
	for name, rs := range f.chains {
		if !strings.HasPrefix(name, prefix+"V-") && !strings.HasPrefix(name, chainNodePorts+"-") {
			continue
		}
		for _, r := range rs {
			if fe, ok := decode(r, ipv6); ok {
				out = append(out, fe)
			}
		}
	}
	return out
}

// decode reads what match wrote.
func decode(rule string, ipv6 bool) (f lb.Frontend, ok bool) {
	fields := strings.Fields(rule)
	f.Addr = netip.IPv4Unspecified()
	if ipv6 {
		f.Addr = netip.IPv6Unspecified()
	}
	for i := 0; i+1 < len(fields); i++ {
		switch fields[i] {
		case "-d":
			p, err := netip.ParsePrefix(fields[i+1])
			if err != nil {
				return f, false
			}
			f.Addr = p.Addr()
		case "-p":
			f.Proto = map[string]model.Protocol{"tcp": model.TCP, "udp": model.UDP, "sctp": model.SCTP}[fields[i+1]]
		case "--dport":
			n, err := strconv.ParseUint(fields[i+1], 10, 16)
			if err != nil {
				return f, false
			}
			f.Port = uint16(n)
		}
	}
	return f, f.Proto != 0 && f.Port != 0
}

// edit is what has to be written to one table.
type edit struct {
	set    map[string][]string
	remove []string
	// unlink and link are rules of built-in chains, as "CHAIN rule" and "CHAIN 1 rule".
	unlink, link []string
}

func (e *edit) empty() bool {
	return len(e.set) == 0 && len(e.remove) == 0 && len(e.unlink) == 0 && len(e.link) == 0
}

// lines counts what is written.
func (e *edit) lines() (n int) {
	for _, rs := range e.set {
		n += 1 + len(rs)
	}
	return n + len(e.remove) + len(e.unlink) + len(e.link)
}

// rules counts those that are written.
func (e *edit) rules() (n int) {
	for _, rs := range e.set {
		n += len(rs)
	}
	return n
}

// replaced counts the rules of have that the edit takes away.
func (e *edit) replaced(have rules) (n int) {
	for name := range e.set {
		n += len(have[name])
	}
	for _, name := range e.remove {
		n += len(have[name])
	}
	return n
}

// diff gives what makes have the same as want, for the chains that are named.
func diff(have, want rules, names func(func(string) bool)) edit {
	e := edit{set: map[string][]string{}}
	for name := range names {
		w, wanted := want[name]
		h, there := have[name]
		switch {
		case !wanted && there:
			e.remove = append(e.remove, name)
		case wanted && (!there || !slices.Equal(h, w)):
			e.set[name] = w
		}
	}
	return e
}

// relink makes each jump be there once.
func (e *edit) relink(table string, have []string) {
	var want []string
	for _, j := range jumps() {
		if j.table == table {
			want = append(want, j.chain+" "+j.rule)
		}
	}
	seen := map[string]bool{}
	for _, h := range have {
		if seen[h] || !slices.Contains(want, h) {
			e.unlink = append(e.unlink, h)
			continue
		}
		seen[h] = true
	}
	for _, w := range want {
		if !seen[w] {
			chain, rule, _ := strings.Cut(w, " ")
			e.link = append(e.link, chain+" 1 "+rule)
		}
	}
}

// text is the edit in the language of iptables-restore.
func (e *edit) text(b *strings.Builder, table string) {
	if e.empty() {
		return
	}
	b.WriteString("*" + table + "\n")
	names := make([]string, 0, len(e.set))
	for name := range e.set {
		names = append(names, name)
	}
	slices.Sort(names)
	slices.Sort(e.remove)
	for _, list := range [][]string{names, e.remove} {
		for _, name := range list {
			b.WriteString(":" + name + " - [0:0]\n")
		}
	}
	for _, r := range e.unlink {
		b.WriteString("-D " + r + "\n")
	}
	for _, name := range names {
		for _, r := range e.set[name] {
			b.WriteString("-A " + name + " " + r + "\n")
		}
	}
	for _, r := range e.link {
		b.WriteString("-I " + r + "\n")
	}
	for _, name := range e.remove {
		b.WriteString("-X " + name + "\n")
	}
	b.WriteString("COMMIT\n")
}
