package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// LegacyOrigin marks the tables that ParseSave makes.
const LegacyOrigin = "iptables-legacy"

// ParseSave reads what iptables-save, or with ipv6 ip6tables-save, has printed
// of legacy tables. Options that are not known become matches that are not known.
func ParseSave(text []byte, ipv6 bool) ([]Table, error) {
	var out []Table
	var t *Table
	chains := map[string]int{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		kind, rest := "", ""
		if line != "" {
			kind, rest = line[:1], line[1:]
		}
		switch {
		case kind == "*":
			out = append(out, Table{Name: rest, Family: IPv4, Origin: LegacyOrigin, Sets: map[string]*Set{}})
			t, chains = &out[len(out)-1], map[string]int{}
			if ipv6 {
				t.Family = IPv6
			}
		case t == nil || kind == "#" || kind == "" || line == "COMMIT":
		case kind == ":":
			f := strings.Fields(rest)
			if len(f) < 2 {
				return nil, fmt.Errorf("read table %s: not a chain: %q", t.Name, line)
			}
			chains[f[0]] = len(t.Chains)
			t.Chains = append(t.Chains, Chain{Name: f[0], Base: builtIn(t.Name, f[0], f[1] == "DROP")})
		default:
			words, ok := split(line)
			at, known := -1, false
			if ok && len(words) > 2 && words[0] == "-A" {
				at, known = lookup(chains, words[1])
			}
			if !known {
				return nil, fmt.Errorf("read table %s: not a rule: %q", t.Name, line)
			}
			c := &t.Chains[at]
			c.Rules = append(c.Rules, parseRule(line, words[2:], ipv6))
		}
	}
	return out, nil
}

func lookup(m map[string]int, k string) (int, bool) { i, ok := m[k]; return i, ok }

// builtIn gives the seat of a chain that the kernel calls by itself, nil for others.
func builtIn(table, chain string, drop bool) *Base {
	hook := slices.Index([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, chain)
	if hook < 0 {
		return nil
	}
	priority := map[string]int{"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}[table]
	if table == "nat" && (hook == Input || hook == Postrouting) {
		priority = 100
	}
	return &Base{NAT: table == "nat", Hook: hook, Priority: priority, Drop: drop}
}

// split cuts a line into words as a shell would: quotes keep spaces.
func split(line string) (words []string, ok bool) {
	var word strings.Builder
	inside, quoted, started := false, false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted:
			word.WriteByte(c)
			quoted = false
		case c == '\\' && inside:
			quoted = true
		case c == '"':
			inside, started = !inside, true
		case c == ' ' && !inside:
			if started {
				words = append(words, word.String())
			}
			word.Reset()
			started = false
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words, !inside && !quoted
}

// ruleReader reads the options of one rule.
type ruleReader struct {
	ipv6  bool
	words []string
	rule  Rule
	// match is the module that options belong to; unknown are those of it that are not known.
	match string
	// recent is what the match recent is about to do.
	recent Recent
}

func parseRule(line string, words []string, ipv6 bool) Rule {
	r := ruleReader{ipv6: ipv6, words: words, rule: Rule{Text: line}}
	for len(r.words) > 0 {
		not := r.words[0] == "!"
		if not {
			r.words = r.words[1:]
			if len(r.words) == 0 {
				break
			}
		}
		option := r.words[0]
		r.words = r.words[1:]
		if option == "-j" || option == "-g" {
			r.endMatch()
			r.target(option == "-g")
			return r.rule
		}
		if !r.option(option, not) {
			r.add(Unknown{Name: strings.TrimSpace("iptables match " + r.match + " " + option)})
			r.skip()
		}
	}
	r.endMatch()
	return r.rule
}

func (r *ruleReader) add(x ...Expr) { r.rule.Exprs = append(r.rule.Exprs, x...) }

// value takes the next word.
func (r *ruleReader) value() string {
	if len(r.words) == 0 {
		return ""
	}
	v := r.words[0]
	r.words = r.words[1:]
	return v
}

// skip leaves out the values of an option that is not known.
func (r *ruleReader) skip() {
	for len(r.words) > 0 && r.words[0] != "!" && !strings.HasPrefix(r.words[0], "-") {
		r.words = r.words[1:]
	}
}

// endMatch completes a match whose options are all there.
func (r *ruleReader) endMatch() {
	if r.match == "recent" && r.recent.List != "" {
		r.add(r.recent)
	}
	r.recent = Recent{}
}

// numbers reads a decimal or hexadecimal number, or "value/mask".
func numbers(s string) (value, mask uint32, ok bool) {
	v, m, masked := strings.Cut(s, "/")
	n, err := strconv.ParseUint(v, 0, 32)
	value, mask = uint32(n), ^uint32(0)
	if err == nil && masked {
		n, err = strconv.ParseUint(m, 0, 32)
		mask = uint32(n)
	}
	return value, mask, err == nil
}
