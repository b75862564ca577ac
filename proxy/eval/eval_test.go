package eval_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"),
}}

// TestGolden evaluates the packets of the same files that package lb compiles.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("../lb/testdata/services/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w, packets := lbtest.New(), ""
			for i := range archive.Files {
				f := &archive.Files[i]
				switch f.Name {
				case "world":
					if err := w.Apply(string(f.Data)); err != nil {
						t.Fatal(err)
					}
				case "packets":
					packets = string(f.Data)
				case "verdicts":
					got := verdicts(t, lb.Compile(config, w.Snapshot()), packets)
					if *update {
						f.Data = []byte(got)
					} else if diff := cmp.Diff(string(f.Data), got); diff != "" {
						t.Errorf("verdicts (-want +got):\n%s", diff)
					}
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestTrace holds the sentences of the same packets.
func TestTrace(t *testing.T) {
	files, err := filepath.Glob("../lb/testdata/services/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			w := lbtest.New()
			for _, f := range archive.Files {
				switch f.Name {
				case "world":
					if err := w.Apply(string(f.Data)); err != nil {
						t.Fatal(err)
					}
				case "packets":
					traces(t, &got, lb.Compile(config, w.Snapshot()), string(f.Data))
				}
			}
			golden := filepath.Join("testdata", strings.TrimSuffix(filepath.Base(file), ".txtar")+".trace")
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("traces (-want +got):\n%s", diff)
			}
		})
	}
}

func traces(t *testing.T, b *strings.Builder, s *lb.State, packets string) {
	for line := range strings.Lines(packets) {
		p, err := lbtest.ParsePacket(line)
		if err != nil {
			t.Fatal(err)
		}
		v, said := eval.Trace(s, p)
		if diff := cmp.Diff(eval.Eval(s, p).String(), v.String()); diff != "" {
			t.Errorf("%s: Trace and Eval differ:\n%s", p, diff)
		}
		b.WriteString(p.String() + " : " + v.String() + "\n")
		for _, sentence := range said {
			b.WriteString("  " + sentence + "\n")
		}
	}
}

func verdicts(t *testing.T, s *lb.State, packets string) string {
	var b strings.Builder
	for line := range strings.Lines(packets) {
		p, err := lbtest.ParsePacket(line)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(p.String() + " : " + eval.Eval(s, p).String() + "\n")
	}
	return b.String()
}

func TestNodePortAddresses(t *testing.T) {
	cfg := *config
	cfg.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
	w := lbtest.MustParse("node n1 192.168.0.1 10.0.0.1\nservice d/x NodePort 10.96.0.1 p:80/TCP[30001]\nslice d/x of d/x p:80/TCP 10.244.0.1=ready")
	s := lb.Compile(&cfg, w.Snapshot())
	for dst, want := range map[string]eval.Outcome{"192.168.0.1": eval.DNAT, "10.0.0.1": eval.NoService} {
		p, err := lbtest.ParsePacket("outside 9.9.9.9 -> " + dst + ":30001/TCP (this node)")
		if err != nil {
			t.Fatal(err)
		}
		if v := eval.Eval(s, p); v.Outcome != want {
			t.Errorf("%s: %s", p, v)
		}
	}
}
