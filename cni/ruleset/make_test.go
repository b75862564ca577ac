package ruleset

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nodelet/cni/ipam"
	"nodelet/internal/nft"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var in struct {
				Network Network
				Leases  []ipam.Lease
			}
			if err := json.Unmarshal(ar.Files[0].Data, &in); err != nil {
				t.Fatal(err)
			}
			got := text(Make(in.Network, in.Leases))
			if *update {
				ar.Files = []txtar.File{ar.Files[0], {Name: "table", Data: []byte(got)}}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(ar.Files[1].Data), got); d != "" {
				t.Fatalf("table differs (-want +got), see -update:\n%s", d)
			}
		})
	}
}

func text(rs nft.Ruleset) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s\n", rs.Table)
	for _, s := range rs.Sets {
		if len(s.Elements) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s\n", s.String())
		for _, e := range s.Elements {
			fmt.Fprintf(&b, "  %x : %x\n", e.Key, e.Data)
		}
	}
	for _, c := range rs.Chains {
		fmt.Fprintf(&b, "chain %s", c.Name)
		if c.Base != nil {
			fmt.Fprintf(&b, " %s %s %d", c.Base.Type, c.Base.Hook, c.Base.Priority)
		}
		b.WriteString("\n")
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "  %s\n", r)
		}
	}
	return b.String()
}
