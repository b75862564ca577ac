package nodeplan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"nodelet/internal/golden"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func facts() Facts {
	return Facts{
		Now: t0, Started: t0,
		Identity: Identity{
			Name: "n1", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, KubeletPort: 10250, KubeletVersion: "v1.36.3+nodelet",
			Labels: map[string]string{"example.com/rack": "r1", corev1.LabelTopologyZone: "z1"},
			Taints: []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}},
		},
		Machine: Machine{
			CPUs: 4, Memory: 8 << 30, EphemeralStorage: 100 << 30, HugePages: map[uint64]uint64{2 << 20: 64 << 20},
			MachineID: "m", SystemUUID: "s", BootID: "b1", Kernel: "6.18.0", OSImage: "Debian", OS: "linux", Arch: "amd64",
		},
		Reserve: Reserve{
			MaxPods: 110, EvictMemory: 100 << 20, EvictStorage: 10 << 30,
			Kube:   corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("256Mi")},
			System: corev1.ResourceList{"cpu": resource.MustParse("50m")},
		},
	}
}

func ready(f *Facts) {
	f.Runtime = Runtime{
		Answered: f.Now, Name: "containerd", Version: "v2.4.2",
		Runtime:  &Condition{Type: "RuntimeReady", Status: true},
		Network:  &Condition{Type: "NetworkReady", Status: true},
		Handlers: []Handler{{Name: "runc", RecursiveReadOnly: true}, {Name: ""}},
	}
}

// step changes the facts; what it returns is written above the golden text.
type step struct {
	name string
	do   func(*Facts)
}

// history plays steps against one object, applying each patch as the API server would.
func history(t *testing.T, steps []step) *txtar.Archive {
	t.Helper()
	ar := &txtar.Archive{}
	f := facts()
	var node *corev1.Node
	for _, s := range steps {
		s.do(&f)
		p := Make(f, node)
		ar.Files = append(ar.Files, txtar.File{Name: s.name, Data: []byte(text(t, p, node))})
		node = applied(t, p, node)
		again := f
		if p := Make(again, node); p.Changed || len(p.Events) > 0 {
			t.Errorf("%s: a second look at the same facts finds something to do: %v", s.name, p.Events)
		}
	}
	return ar
}

func text(t *testing.T, p Plan, old *corev1.Node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "changed=%t ready=%t\n", p.Changed, p.Ready())
	for _, e := range p.Events {
		fmt.Fprintf(&b, "event %s\n", e)
	}
	if old == nil {
		y, err := yaml.Marshal(p.Node)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(y)
		return b.String()
	}
	patch, err := Patch(old, p.Node)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.JSONToYAML(patch)
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString("patch:\n")
	b.Write(y)
	return b.String()
}

func applied(t *testing.T, p Plan, old *corev1.Node) *corev1.Node {
	t.Helper()
	if old == nil {
		n := p.Node.DeepCopy()
		n.UID, n.ResourceVersion = "uid", "1"
		return n
	}
	patch, err := Patch(old, p.Node)
	if err != nil {
		t.Fatal(err)
	}
	if patch == nil {
		return old
	}
	before, _ := json.Marshal(old)
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Node{})
	if err != nil {
		t.Fatal(err)
	}
	n := &corev1.Node{}
	if err := json.Unmarshal(after, n); err != nil {
		t.Fatal(err)
	}
	return n
}

func check(t *testing.T, name string, ar *txtar.Archive) {
	t.Helper()
	golden.File(t, filepath.Join("testdata", name+".txtar"), string(txtar.Format(ar)))
}

func later(f *Facts, d time.Duration) { f.Now = f.Now.Add(d) }

func TestFirstStart(t *testing.T) {
	check(t, "first-start", history(t, []step{
		{"register", func(f *Facts) { f.Missing = []string{"service proxy has not programmed the kernel yet"} }},
		{"runtime answers, network not ready", func(f *Facts) {
			later(f, time.Second)
			ready(f)
			f.Runtime.Network = &Condition{Type: "NetworkReady", Reason: "NetworkPluginNotReady", Message: "cni plugin not initialized"}
		}},
		{"network ready", func(f *Facts) { later(f, time.Second); ready(f) }},
		{"proxy has programmed", func(f *Facts) { later(f, time.Second); f.Missing = nil }},
		{"memory pressure", func(f *Facts) {
			later(f, time.Minute)
			f.Runtime.Answered = f.Now
			f.Pressure.Memory = true
		}},
		{"runtime silent for 29 s", func(f *Facts) { later(f, 29*time.Second) }},
		{"runtime silent for 30 s", func(f *Facts) { later(f, time.Second) }},
		{"runtime is back", func(f *Facts) { later(f, time.Second); f.Runtime.Answered = f.Now }},
		{"images and a second address", func(f *Facts) {
			later(f, time.Second)
			f.Images = []corev1.ContainerImage{{Names: []string{"busybox:1"}, SizeBytes: 7}}
			f.Identity.IPs = append(f.Identity.IPs, netip.MustParseAddr("2001:db8::7"))
		}},
	}))
}

// A daemon that restarts does not make the node blink; a machine that reboots does.
func TestRestart(t *testing.T) {
	restart := func(f *Facts) {
		later(f, time.Minute)
		f.Started = f.Now
		f.Runtime = Runtime{}
		f.Missing = []string{"cluster DNS does not answer yet"}
	}
	check(t, "restart", history(t, []step{
		{"running", func(f *Facts) { ready(f) }},
		{"restarted, nothing known", restart},
		{"still nothing known after 29 s", func(f *Facts) { later(f, 29*time.Second) }},
		{"still nothing known after 30 s", func(f *Facts) { later(f, time.Second) }},
		{"all known", func(f *Facts) { ready(f); f.Missing = nil }},
		{"rebooted", func(f *Facts) { restart(f); f.Machine.BootID = "b2" }},
	}))
}

// With a cloud controller manager the node waits for it, suggests addresses, and then leaves those alone.
func TestCloud(t *testing.T) {
	for name, given := range map[string]bool{"cloud": true, "cloud-guess": false} {
		cloud := func(f *Facts) { ready(f); f.Identity.Cloud, f.Identity.IPsGiven = true, given }
		check(t, name, history(t, []step{
			{"register", cloud},
			{"a second address", func(f *Facts) {
				later(f, time.Second)
				f.Identity.IPs = append(f.Identity.IPs, netip.MustParseAddr("2001:db8::7"))
			}},
			{"no cloud any more", func(f *Facts) { later(f, time.Second); f.Identity.Cloud = false }},
		}))
	}
	f := facts()
	f.Identity.Cloud = true
	old := Make(f, nil).Node
	old.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "203.0.113.1"}}
	if got := Make(f, old).Node.Status.Addresses; len(got) != 1 || got[0].Address != "203.0.113.1" {
		t.Errorf("the cloud's addresses became %v", got)
	}
}

// What others wrote into the object stays.
func TestAdopt(t *testing.T) {
	f := facts()
	ready(&f)
	old := &corev1.Node{}
	old.Name, old.UID, old.ResourceVersion = "n1", "uid", "9"
	old.Labels = map[string]string{"foreign": "x", corev1.LabelArchStable: "arm64", "example.com/rack": "r9"}
	old.Annotations = map[string]string{"foreign": "y"}
	old.Spec.PodCIDRs = []string{"10.244.3.0/24"}
	old.Spec.Taints = []corev1.Taint{{Key: "foreign"}}
	old.Status.Capacity = corev1.ResourceList{"example.com/gpu": resource.MustParse("3"), "hugepages-1Gi": resource.MustParse("1Gi")}
	old.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: "Theirs"}}
	old.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "203.0.113.1"}}
	p := Make(f, old)
	check(t, "adopt", &txtar.Archive{Files: []txtar.File{{Name: "adopt", Data: []byte(text(t, p, old))}}})
	n := applied(t, p, old)
	if n.Labels["foreign"] != "x" || n.Annotations["foreign"] != "y" || len(n.Spec.Taints) != 1 || n.Spec.Taints[0].Key != "foreign" {
		t.Errorf("foreign metadata is gone: %v %v %v", n.Labels, n.Annotations, n.Spec.Taints)
	}
	if n.Labels["example.com/rack"] != "r9" || n.Labels[corev1.LabelArchStable] != "amd64" || n.Labels[corev1.LabelTopologyZone] != "z1" {
		t.Errorf("labels %v", n.Labels)
	}
	if q := n.Status.Allocatable["example.com/gpu"]; q.Value() != 3 {
		t.Errorf("extended resource is gone: %v", n.Status.Allocatable)
	}
	if _, is := n.Status.Capacity["hugepages-1Gi"]; is {
		t.Error("a page size the kernel does not offer is still there")
	}
	if find(n.Status.Conditions, corev1.NodeNetworkUnavailable) == nil {
		t.Error("a foreign condition is gone")
	}
	if len(n.Status.Addresses) != 2 || n.Status.Addresses[0].Address != "192.0.2.7" {
		t.Errorf("addresses %v", n.Status.Addresses)
	}
	if len(old.Status.Addresses) != 1 || old.Labels[corev1.LabelArchStable] != "arm64" {
		t.Error("Make changed what it was given")
	}
}

func TestCheckReserve(t *testing.T) {
	f := facts()
	if err := CheckReserve(f.Machine, f.Reserve); err != nil {
		t.Error(err)
	}
	f.Reserve.Kube = corev1.ResourceList{"memory": resource.MustParse("7950Mi")}
	if err := CheckReserve(f.Machine, f.Reserve); err != nil {
		t.Errorf("8050 of 8192 Mi: %v", err)
	}
	f.Reserve.System = corev1.ResourceList{"memory": resource.MustParse("200Mi")}
	if err := CheckReserve(f.Machine, f.Reserve); err == nil || !strings.Contains(err.Error(), "kubeReserved") {
		t.Errorf("8250 of 8192 Mi: %v", err)
	}
	e := Enforceable(facts().Machine, facts().Reserve)
	if got, want := e.Memory().Value(), int64(8<<30-256<<20-64<<20); got != want {
		t.Errorf("enforceable memory %d, want %d", got, want)
	}
}

func TestDefaultIP(t *testing.T) {
	ip := netip.MustParseAddr
	lo := Link{Index: 1, Name: "lo", Up: true, Loopback: true, Addrs: []netip.Addr{ip("127.0.0.1"), ip("10.96.0.10")}}
	eth := Link{Index: 2, Name: "eth0", Up: true, Addrs: []netip.Addr{ip("169.254.7.7"), ip("fe80::1"), ip("2001:db8::2"), ip("192.0.2.2")}}
	second := Link{Index: 3, Name: "eth1", Up: true, Addrs: []netip.Addr{ip("198.51.100.3")}}
	six := Link{Index: 4, Name: "eth2", Up: true, Addrs: []netip.Addr{ip("fe80::4"), ip("2001:db8::4")}}
	down := Link{Index: 5, Name: "eth3", Addrs: []netip.Addr{ip("203.0.113.5")}}
	tests := []struct {
		name   string
		links  []Link
		routes []DefaultRoute
		want   string
	}{
		{"default route", []Link{lo, eth, second}, []DefaultRoute{{Link: 3}}, "198.51.100.3"},
		{"lowest metric", []Link{lo, eth, second}, []DefaultRoute{{Link: 3, Metric: 200}, {Link: 2, Metric: 100}}, "192.0.2.2"},
		{"route by a link without address", []Link{lo, {Index: 9, Up: true}, second}, []DefaultRoute{{Link: 9}, {Link: 3, Metric: 5}}, "198.51.100.3"},
		{"route by a link that is down", []Link{lo, down, second}, []DefaultRoute{{Link: 5}}, "198.51.100.3"},
		{"no route, IPv4 first", []Link{lo, six, second}, nil, "198.51.100.3"},
		{"IPv6 only", []Link{lo, six}, nil, "2001:db8::4"},
		{"nothing", []Link{lo, down}, []DefaultRoute{{Link: 7}}, "error"},
	}
	for _, test := range tests {
		got := "error"
		addr, err := DefaultIP(test.links, test.routes)
		if err == nil {
			got = addr.String()
		} else if !strings.Contains(err.Error(), "--node-ip") {
			t.Errorf("%s: the error names no way out: %v", test.name, err)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// The patch of two addresses of one type must keep both.
func TestPatchOfAddresses(t *testing.T) {
	f := facts()
	f.Identity.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	node := applied(t, Make(f, nil), nil)
	f.Identity.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
	node = applied(t, Make(f, node), node)
	var got []string
	for _, a := range node.Status.Addresses {
		got = append(got, a.Address)
	}
	if want := []string{"192.0.2.9", "2001:db8::9", "n1"}; !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
}
