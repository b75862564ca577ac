package linkplan

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"
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
				Request Request      `json:"request"`
				Network Network      `json:"network"`
				Addrs   []netip.Addr `json:"addrs"`
			}
			if err := json.Unmarshal(ar.Files[0].Data, &in); err != nil {
				t.Fatal(err)
			}
			plan, err := Make(in.Request, in.Network, in.Addrs)
			got := plan.String()
			if err != nil {
				got = "error: " + err.Error() + "\n"
			}
			if *update {
				ar.Files = []txtar.File{ar.Files[0], {Name: "plan", Data: []byte(got)}}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(ar.Files[1].Data), got); d != "" {
				t.Fatalf("plan differs (-want +got), see -update:\n%s", d)
			}
		})
	}
}

func TestNamesAndMACs(t *testing.T) {
	seen := map[string]Request{}
	rapid.Check(t, func(t *rapid.T) {
		r := Request{ContainerID: rapid.StringN(1, 64, 64).Draw(t, "id"), IfName: rapid.StringN(1, 15, 15).Draw(t, "if")}
		name := VethName(r)
		if len(name) != 15 {
			t.Fatalf("%q is no interface name", name)
		}
		if old, ok := seen[name]; ok && old != r {
			t.Fatalf("%v and %v are both %s", old, r, name)
		}
		seen[name] = r
		host, pod := macs(r)
		if host == pod || host[0]&3 != 2 || pod[0]&3 != 2 {
			t.Fatalf("mac addresses %s and %s", host, pod)
		}
	})
}
