package prove

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"

	"nodelet/proxy/lb"
)

// kubeProxy finds the program that is compared with.
func kubeProxy(t *testing.T) string {
	t.Helper()
	needRoot(t)
	for _, file := range []string{os.Getenv("KUBE_PROXY"), "../../bench/.cache/peers/kube-proxy"} {
		if found, err := exec.LookPath(file); err == nil {
			return found
		}
	}
	t.Skip("no kube-proxy: make bench ONLY=proxy QUICK=1 builds one, or name another with KUBE_PROXY")
	return ""
}

// TestKubeProxy: an upstream kube-proxy agrees with the meaning, but for what is known.
func TestKubeProxy(t *testing.T) {
	file := kubeProxy(t)
	for _, mode := range KubeProxyModes() {
		t.Run(mode, func(t *testing.T) {
			held, err := HeldKubeProxy(KubeProxy{file, mode})
			if err != nil {
				t.Fatal(err)
			}
			rep := run(t, Options{Seed: 1, Cases: cases / 4}, held)
			if rep.Failed != nil {
				t.Error(rep.Failed)
			}
			t.Logf("known differences: %v", rep.Known)
			packets, err := PacketsKubeProxy(KubeProxy{file, mode})
			if err != nil {
				t.Fatal(err)
			}
			if rep := run(t, Options{Seed: 2, Cases: cases / 16}, packets); rep.Failed != nil {
				t.Error(rep.Failed)
			}
		})
	}
}

// TestKubeProxyThatEnds: what it said last is in the error, and nothing stays.
func TestKubeProxyThatEnds(t *testing.T) {
	needRoot(t)
	file := filepath.Join(t.TempDir(), "kube-proxy")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho \"no $1\"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := HeldKubeProxy(KubeProxy{file, "nftables"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, err = Run(context.Background(), Options{Seed: 1, Cases: 1}, s)
	if err == nil || !strings.Contains(err.Error(), "kube-proxy has ended") || !strings.Contains(err.Error(), "no --config=") {
		t.Errorf("got %v", err)
	}
	if _, err := HeldKubeProxy(KubeProxy{"/nowhere/kube-proxy", "nftables"}); err == nil {
		t.Error("started what is not there")
	}
}

func TestParseKubeProxy(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	both, err := ParseKubeProxy("kube-proxy=sh")
	if err != nil || !slices.Equal(both, []KubeProxy{{sh, "iptables"}, {sh, "nftables"}}) {
		t.Errorf("without a mode: %v %v", both, err)
	}
	one, err := ParseKubeProxy("kube-proxy=sh,mode=nftables")
	if err != nil || !slices.Equal(one, []KubeProxy{{sh, "nftables"}}) {
		t.Errorf("with a mode: %v %v", one, err)
	}
	for text, want := range map[string]string{
		"": "must be kube-proxy=BINARY", "sh": "must be", "kube-proxy=": "must be", "kube-proxy=sh,x=y": "must be",
		"kube-proxy=sh,mode=ipvs": "known are iptables, nftables", "kube-proxy=/nowhere/x": "find kube-proxy",
	} {
		if _, err := ParseKubeProxy(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// all disagrees about every packet.
type all struct{ Subject }

func (all) Disagree(_ context.Context, _ *lb.State, packets []string) (string, error) {
	if len(packets) == 0 {
		return "", nil
	}
	return packets[0] + "\n  otherwise", nil
}

// TestKnownDifferences: each is passed over in the modes that have it, and only what it covers.
func TestKnownDifferences(t *testing.T) {
	world := []string{
		"service d/a LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30000] lb=1.2.3.1 ranges=192.168.7.0/28 extip=5.6.7.1",
		"service d/b ClusterIP 10.96.0.2,fd96::2 p:80/TCP extip=5.6.7.100 extip=5.6.7.2",
		"service d/c ClusterIP 10.96.0.3,fd96::3 p:80/TCP extip=5.6.7.100",
		"slice d/b of d/b p:8080/TCP 10.244.2.2=ready@n2 10.244.1.2=ready@n1",
	}
	for text, want := range map[string]string{
		"a -> 10.96.0.2:81/TCP":    "unserved-ports",
		"r -> 10.96.0.2:80/TCP":    "hairpin-elsewhere",
		"a -> 10.96.0.2:80/TCP":    "",
		"node -> 5.6.7.1:80/TCP":   "node-to-empty",
		"a -> 5.6.7.1:80/TCP":      "",
		"node -> 10.96.0.1:80/TCP": "",
		"a -> 1.2.3.1:80/TCP":      "ranges-of-empty",
		"a -> 5.6.7.100:80/TCP":    "contested-address",
		"a -> 5.6.7.2:80/TCP":      "",
		"a -> 9.9.9.9:80/TCP":      "",
	} {
		c := Case{world, []string{text}}
		state, err := c.State()
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range KubeProxyModes() {
			expected := want
			if mode == "nftables" && want != "contested-address" {
				expected = ""
			}
			k := &knowing{Subject: all{}, known: Differences(mode), seen: map[string]int{}}
			what, err := k.Disagree(context.Background(), state, c.Packets)
			if err != nil || (what == "") != (expected != "") || expected != "" && k.seen[expected] != 1 {
				t.Errorf("%s in mode %s: %q, counted %v, want %q", text, mode, what, k.seen, expected)
			}
		}
	}
	for _, d := range Differences("iptables") {
		if d.Why == "" || d.Name == "" {
			t.Errorf("%+v does not say what it is", d)
		}
	}
}

// TestDocumentedDifferences: docs/proxy.md lists them all.
func TestDocumentedDifferences(t *testing.T) {
	text, err := os.ReadFile("../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range KubeProxyModes() {
		for _, d := range Differences(mode) {
			if !strings.Contains(string(text), "| `"+d.Name+"` |") {
				t.Errorf("docs/proxy.md does not list %s: %s", d.Name, d.Why)
			}
		}
	}
}

// TestObjects: what the API is told is what the case says.
func TestObjects(t *testing.T) {
	c := Case{World: []string{
		"service d/a LoadBalancer 10.96.0.1,fd96::1 p:80/TCP[30000] external=local internal=local affinity=1h lb=1.2.3.1 lbproxy=1.2.3.2 ranges=192.168.7.0/28 extip=5.6.7.1",
		"slice d/a-6 of d/a p:8080/TCP fd44:1::2=serving@n1",
	}}
	s, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	now := objectsOf(s)
	var names []string
	for _, o := range now {
		names = append(names, idOf(o))
	}
	slices.Sort(names)
	if want := []string{"node /n1", "node /n2", "service d/a", "slice d/a-6-ipv6"}; !slices.Equal(names, want) {
		t.Errorf("objects %v, want %v", names, want)
	}
	for _, o := range now {
		if sl, ok := o.(*discoveryv1.EndpointSlice); ok {
			if e := sl.Endpoints[0]; *e.Conditions.Ready || !*e.Conditions.Serving || !*e.Conditions.Terminating || *e.NodeName != "n1" {
				t.Errorf("endpoint %+v", e)
			}
		}
	}
	if gone := missing(now, now[:1]); len(gone) != len(now)-1 {
		t.Errorf("%d objects are missing of %d", len(gone), len(now))
	}
}
