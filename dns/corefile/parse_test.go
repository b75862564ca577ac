package corefile

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nodelet/internal/golden"
)

// print writes what was read, one line a thing.
func (c *Config) print() string {
	var b strings.Builder
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "server %q\n", s.Zones)
		if s.Kubernetes != nil {
			fmt.Fprintf(&b, "  kubernetes %+v\n", *s.Kubernetes)
		}
		for _, r := range s.Rewrites {
			fmt.Fprintf(&b, "  rewrite field=%d kind=%d %q -> %q pattern=%v ttl=%d-%d continue=%t\n", r.Field, r.Kind, r.From, r.To, r.Pattern, r.Min, r.Max, r.Continue)
		}
		for _, t := range s.Templates {
			fmt.Fprintf(&b, "  template %s %q match=%v rcode=%s answers=%d authority=%d additional=%d fallthrough=%t\n",
				t.Type, t.Zones, t.Match, t.Rcode, len(t.Answer), len(t.Authority), len(t.Additional), t.Fallthrough)
		}
		if s.Hosts != nil {
			fmt.Fprintf(&b, "  hosts ttl=%d no_reverse=%t %v\n", s.Hosts.TTL, s.Hosts.NoReverse, s.Hosts.Addrs)
		}
		if s.Cache != nil {
			fmt.Fprintf(&b, "  cache %+v\n", *s.Cache)
		}
		for _, f := range s.Forwards {
			fmt.Fprintf(&b, "  forward %q except=%q to=%v host=%t policy=%s tcp=%t max=%d\n", f.Zone, f.Except, f.To, f.Host, f.Policy, f.TCP, f.MaxConcurrent)
		}
	}
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "note %s\n", n)
	}
	return b.String()
}

var files = map[string]string{
	Dir + "NodeHosts": "# nodes\n10.0.0.1\tnode-1 node-1.lab.example\n\nfd00::2 node-2 # the second\n",
	Dir + "bad":       "10.0.0.1 a\nten.0.0.1 b\n",
}

// TestGolden reads each file of the archives; what comes out, or the error, is
// the section of its name with ".read".
func TestGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(t *golden.Case) {
		for _, name := range t.Sections() {
			if strings.HasSuffix(name, ".read") {
				continue
			}
			c, err := Parse("Corefile", t.Section(name), files)
			got := fmt.Sprintln(err)
			if err == nil {
				got = c.print()
			}
			t.Want(name+".read", got)
		}
	})
}

func TestParseUpstream(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:53", "192.0.2.1:5353": "192.0.2.1:5353", "2001:db8::1": "[2001:db8::1]:53", "[2001:db8::1]:54": "[2001:db8::1]:54",
		"tls://192.0.2.1": "tls://192.0.2.1:853", "tls://192.0.2.1#dns.example": "tls://192.0.2.1:853#dns.example", "tls://[2001:db8::1]:8853#a": "tls://[2001:db8::1]:8853#a",
		"dns://192.0.2.1": "192.0.2.1:53",
		"":                "", "example.com": "", "0.0.0.0": "", "224.0.0.1": "", "192.0.2.1#name": "", "192.0.2.1:0": "", "https://192.0.2.1": "", "192.0.2.1:99999": "",
	} {
		u, err := ParseUpstream(in)
		if got := u.String(); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: got %q (%v), want %q", in, got, err, want)
		}
	}
}

// FuzzParse: whatever the text, there is a configuration or an error with a line, and no more.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/good.txtar", "testdata/bad.txtar"} {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, in := range archive.Files {
			f.Add(string(in.Data))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("Corefile", text, files)
		if err == nil {
			if len(c.Servers) == 0 {
				t.Error("no error, and nothing was read")
			}
			return
		}
		var at *Error
		if !errors.As(err, &at) || at.Line < 1 || at.Line > strings.Count(text, "\n")+1 {
			t.Errorf("the error names no line of the text: %v", err)
		}
	})
}
