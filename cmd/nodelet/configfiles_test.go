package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"nodelet/node"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const kubeletHead = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

// A flag wins over a drop-in, a drop-in over the file, the file over the default.
func TestPrecedence(t *testing.T) {
	dir := t.TempDir()
	file, drops := filepath.Join(dir, "kubelet.yaml"), filepath.Join(dir, "conf.d")
	write(t, file, kubeletHead+"maxPods: 10\nport: 11000\nclusterDomain: file.test\nclusterDNS: [10.96.0.20]\nseccompDefault: true\nreadOnlyPort: 10255\n")
	write(t, filepath.Join(drops, "20.conf"), kubeletHead+"maxPods: 30\n")
	write(t, filepath.Join(drops, "10.conf"), kubeletHead+"maxPods: 20\nport: 12000\n")
	write(t, filepath.Join(drops, "ignored.yaml"), "no configuration")
	proxy := filepath.Join(dir, "proxy.yaml")
	write(t, proxy, "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: 10.5.0.0/16,fd00:5::/64\n")
	var f nodeFlags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.add(fs)
	err := fs.Parse([]string{"--kubelet-config", file, "--config-dir", drops, "--proxy-config", proxy, "--kubelet-port", "13000",
		"--data-dir", dir, "--run-dir", dir, "--node-ip", "10.1.2.3", "--hostname-override", "n"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.config()
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxPods != 30 || c.KubeletPort != 13000 || c.ClusterDomain != "file.test" || !c.Kubelet.SeccompDefault || c.HealthzAddr.Port() != 10248 ||
		len(c.ClusterDNS) != 1 || c.ClusterDNS[0].String() != "10.96.0.20" || len(c.ClusterCIDRs) != 2 {
		t.Fatalf("%+v", c)
	}
	if len(f.files.ignored) != 1 || !strings.Contains(f.files.ignored[0], "readOnlyPort: 10255 is ignored") {
		t.Fatalf("ignored %q", f.files.ignored)
	}
}

// -v is a name of --log-level, and wins as that does.
func TestVerbosityWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubelet.yaml")
	write(t, file, kubeletHead+"logging: {verbosity: 5, format: json}\n")
	for args, want := range map[string]string{"": "DEBUG json", "-v=2": "INFO json", "--log-level=warn --logging-format=text": "WARN text"} {
		var f nodeFlags
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(fs)
		if err := fs.Parse(append(strings.Fields(args), "--kubelet-config", file)); err != nil {
			t.Fatal(err)
		}
		if err := f.files.apply(f.flags, &f.cfg); err != nil {
			t.Fatal(err)
		}
		if got := f.cfg.Level.Level().String() + " " + f.log.format; got != want {
			t.Errorf("%q: %s, want %s", args, got, want)
		}
	}
}

func TestMistakesInFilesAreToldWithTheirPlace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "kubelet.yaml")
	for text, want := range map[string]string{
		kubeletHead + "maxPod: 1\n":                file + ": line 3: unknown field \"maxPod\"",
		kubeletHead + "clusterDNS: [somewhere]\n":  file + ": clusterDNS: ",
		kubeletHead + "containerLogMaxSize: big\n": file + ": containerLogMaxSize: ",
	} {
		write(t, file, text)
		var f nodeFlags
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(fs)
		if err := fs.Parse([]string{"--kubelet-config", file}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestWriteConfigTo: what is written says the same when it is read, and kube-proxy's
// own file comes out as it went in; what is in the way leaves nothing behind.
func TestWriteConfigTo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "proxy.yaml")
	base := []string{"--data-dir", dir, "--run-dir", dir, "--node-ip", "10.1.2.3", "--hostname-override", "n"}
	run := func(args ...string) (node.Config, []string) {
		t.Helper()
		var f nodeFlags
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(fs)
		if err := fs.Parse(append(args, base...)); err != nil {
			t.Fatal(err)
		}
		c, err := f.config()
		if err != nil {
			t.Fatal(err)
		}
		return c, f.files.ignored
	}
	first, _ := run("--proxy-mode=iptables", "--cluster-cidr=10.5.0.0/16", "--masquerade-all", "--iptables-masquerade-bit=3", "--conntrack-min=7",
		"--conntrack-tcp-timeout-close-wait=90m", "--nodeport-addresses=primary,10.0.0.0/8", "--ipvs-scheduler=lc", "--detect-local-mode=NodeCIDR", "--profiling")
	if err := first.WriteProxyConfig(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	second, ignored := run("--proxy-config", file)
	if len(ignored) > 0 {
		t.Errorf("ignored: %q in\n%s", ignored, text)
	}
	if !reflect.DeepEqual(first.ProxyOptions, second.ProxyOptions) || first.ProxyMode != second.ProxyMode ||
		!slices.Equal(first.ClusterCIDRs, second.ClusterCIDRs) || first.MetricsAddr != second.MetricsAddr {
		t.Errorf("written\n%+v, read\n%+v from\n%s", first.ProxyOptions, second.ProxyOptions, text)
	}
	again := filepath.Join(dir, "again.yaml")
	if err := second.WriteProxyConfig(again); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(again); err != nil || string(got) != string(text) {
		t.Errorf("written again, %v:\n%s\nthe first time:\n%s", err, got, text)
	}
	if err := os.MkdirAll(filepath.Join(dir, "full", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Join(dir, "nowhere", "f"), filepath.Join(dir, "full")} {
		if err := first.WriteProxyConfig(bad); err == nil || !strings.Contains(err.Error(), "--write-config-to") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".proxy-config-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
