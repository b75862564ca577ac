package node

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestValidateNamesTheFlagThatMends(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"node name":    {func(c *Config) { c.NodeName = "A_B" }, "--hostname-override"},
		"domain":       {func(c *Config) { c.ClusterDomain = "-x" }, "--cluster-domain"},
		"component":    {func(c *Config) { c.Components = []Component{"kubelet"} }, "--components"},
		"no component": {func(c *Config) { c.Components = nil }, "--components"},
		"loopback":     {func(c *Config) { c.NodeIPs = []netip.Addr{netip.MustParseAddr("127.0.0.1")} }, "--node-ip"},
		"runtime":      {func(c *Config) { c.RuntimeEndpoint = "tcp://x" }, "--container-runtime-endpoint"},
		"cgroup":       {func(c *Config) { c.CgroupRoot = "x" }, "--cgroup-root"},
		"max pods":     {func(c *Config) { c.MaxPods = 0 }, "--max-pods"},
		"dns":          {func(c *Config) { c.ClusterDNS = []netip.Addr{netip.MustParseAddr("192.168.0.1")} }, "--cluster-dns"},
		"label":        {func(c *Config) { c.Labels = map[string]string{"node-role.kubernetes.io/worker": ""} }, "--node-labels"},
		"log query":    {func(c *Config) { c.Kubelet.SystemLogQuery, c.Kubelet.NoSystemLogs = true, true }, "enableSystemLogHandler"},
		"pull rate":    {func(c *Config) { c.Resources.RegistryPullQPS = -2 }, "registryPullQPS"},
		"in cluster":   {func(c *Config) { c.InCluster = true }, "--api-server"},
	} {
		t.Run(name, func(t *testing.T) {
			good := Defaults()
			good.NodeName = "node-1"
			if err := good.Validate(); err != nil {
				t.Fatalf("defaults: %v", err)
			}
			bad := good
			c.spoil(&bad)
			if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one that names %s", err, c.want)
			}
		})
	}
}

func TestMovedDataDirectoryTakesEverythingAlong(t *testing.T) {
	l := Layout{Data: "/elsewhere", Run: "/elsewhere/run"}
	v := reflect.ValueOf(l)
	for i := range v.NumMethod() {
		if v.Type().Method(i).Type.NumIn() != 1 {
			continue
		}
		if path := v.Method(i).Call(nil)[0].String(); !strings.HasPrefix(path, "/elsewhere/") {
			t.Errorf("%s is %s", v.Type().Method(i).Name, path)
		}
	}
	d := Layout{Data: DefaultDataDir, Run: DefaultRunDir}
	if d.PodLogs() != "/var/log/pods" || d.KubeletRoot() != "/var/lib/kubelet" {
		t.Errorf("defaults are not where log shippers and drivers look: %s, %s", d.PodLogs(), d.KubeletRoot())
	}
}

func TestSavedConfigurationComesBack(t *testing.T) {
	c := Defaults()
	c.Layout = Layout{Data: t.TempDir(), Run: t.TempDir()}
	c.NodeName, c.CgroupRoot, c.RuntimeEndpoint = "n", "/x", "unix:///y"
	c.ClusterDNS = []netip.Addr{netip.MustParseAddr("10.96.0.53")}
	if got, err := LoadConfig(c.Layout); err != nil || got.CgroupRoot != "/" || got.Has(Agent) {
		t.Fatalf("never started: %+v %v", got, err)
	}
	if err := saveConfig(c); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(c.Layout)
	if err != nil || !reflect.DeepEqual(got, c) {
		a, _ := json.Marshal(c)
		b, _ := json.Marshal(got)
		t.Fatalf("%v\nsaved  %s\nloaded %s", err, a, b)
	}
	if err := os.WriteFile(filepath.Join(c.Layout.Data, savedName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(c.Layout); err == nil || !strings.Contains(err.Error(), savedName) {
		t.Fatalf("garbage: %v", err)
	}
}

// TestResetSparesAnotherKubelet: where only the proxy and the DNS server ran,
// pods' volumes, logs and cgroups are those of another kubelet.
func TestResetSparesAnotherKubelet(t *testing.T) {
	c := Defaults()
	c.Layout = Layout{Data: t.TempDir(), Run: t.TempDir()}
	c.Components = []Component{Proxy, DNS}
	volume := filepath.Join(c.Layout.KubeletRoot(), "pods", "0b9e2f6c-5d1a-4d0e-9a55-0d7f0c3a1b2c", "volumes", "kubernetes.io~empty-dir", "data")
	for _, dir := range []string{volume, filepath.Join(c.Layout.PodLogs(), "default_web_0b9e2f6c-5d1a-4d0e-9a55-0d7f0c3a1b2c")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := saveConfig(c); err != nil {
		t.Fatal(err)
	}
	mentions := func() bool {
		left, err := Residue(t.Context(), c.Layout)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(left, "\n"), "0b9e2f6c")
	}
	if mentions() {
		t.Error("another kubelet's pod is taken for ours")
	}
	// A later start with the agent, and one without it again: it ran.
	for _, components := range [][]Component{{Agent}, {Proxy}} {
		c.Components = components
		if err := saveConfig(c); err != nil {
			t.Fatal(err)
		}
		if !mentions() {
			t.Errorf("after components %v our own pod is not found", components)
		}
	}
}

func TestTaints(t *testing.T) {
	got, err := parseTaints([]string{"a=b:NoSchedule", "c:NoExecute"})
	if err != nil || len(got) != 2 || got[0].Value != "b" || got[1].Key != "c" || got[1].Value != "" {
		t.Fatalf("%v %v", got, err)
	}
	for _, bad := range []string{"", "a", "a=b", "a=b:Never", ":NoSchedule"} {
		if _, err := parseTaints([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestInstalledPluginIsRemovedAndNothingElse(t *testing.T) {
	c := Defaults()
	c.BinDir, c.CNIBinDir = t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(c.BinDir, "nodelet-cni"), "ours")
	theirs := filepath.Join(c.CNIBinDir, "loopback")
	write(theirs, "theirs")
	if err := c.installPlugin(); err != nil {
		t.Fatal(err)
	}
	if got := c.installed(); len(got) != 1 {
		t.Fatalf("installed %v beside another loopback", got)
	}
	if err := os.Remove(theirs); err != nil {
		t.Fatal(err)
	}
	if err := c.installPlugin(); err != nil {
		t.Fatal(err)
	}
	if got := c.installed(); len(got) != 2 {
		t.Fatalf("installed %v", got)
	}
	if err := c.removeInstalled(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(c.CNIBinDir); len(left) != 0 {
		t.Fatalf("left %v", left)
	}
}
