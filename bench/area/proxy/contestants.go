package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/lab"
)

// kubeconfig is of the stub API, for both.
func kubeconfig(n *area.Node, url string) (string, error) {
	file := filepath.Join(n.Dir, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n", url)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	return file, nil
}

// start starts whoever's turn it is.
func start(n *area.Node, who, url string) (*lab.Process, error) {
	config, err := kubeconfig(n, url)
	if err != nil {
		return nil, err
	}
	variant := "legacy"
	if who == upstreamIPT {
		variant = "nft"
	}
	path, err := iptables(n, variant)
	if err != nil {
		return nil, err
	}
	env := []string{"PATH=" + path + ":" + os.Getenv("PATH")}
	if mode, ok := map[string]string{nodeletNFT: "nftables", nodeletIPT: "iptables", nodeletBPF: "ebpf"}[who]; ok {
		return lab.RunWith(env, n.Dir, filepath.Join(n.Bin, "nodelet"), "node", "--components=proxy", "--proxy-mode="+mode,
			"--kubeconfig="+config, "--hostname-override="+area.NodeName, "--node-ip="+area.NodeIP, "--log-level=warn", "--profiling")
	}
	mode := "iptables"
	if who == upstreamNFT {
		mode = "nftables"
	}
	file := filepath.Join(n.Dir, "kube-proxy.yaml")
	if err := os.WriteFile(file, []byte(upstreamConfig(config, mode)), 0o600); err != nil {
		return nil, fmt.Errorf("write kube-proxy's configuration: %w", err)
	}
	return lab.RunWith(env, n.Dir, filepath.Join(n.Peers, "kube-proxy"), "--config="+file)
}

// upstreamConfig leaves everything at kube-proxy's defaults but what names this
// node, and the conntrack table, which belongs to the machine.
func upstreamConfig(kubeconfig, mode string) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %s}
hostnameOverride: %s
mode: %s
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, kubeconfig, area.NodeName, mode)
}

// iptables makes a directory in which the plain names are those of one variant.
func iptables(n *area.Node, variant string) (string, error) {
	dir := filepath.Join(n.Dir, "iptables-"+variant)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("choose iptables-%s: %w", variant, err)
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, end := range []string{"", "-save", "-restore"} {
			target, err := exec.LookPath(family + "-" + variant + end)
			if err != nil {
				return "", fmt.Errorf("choose iptables-%s: %w", variant, err)
			}
			if err := os.Symlink(target, filepath.Join(dir, family+end)); err != nil && !os.IsExist(err) {
				return "", fmt.Errorf("choose iptables-%s: %w", variant, err)
			}
		}
	}
	return dir, nil
}

// profile writes what the daemon's processor time goes to, from now on, to a file.
func profile(over time.Duration, file string) error {
	client := http.Client{Timeout: over + 10*time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:10249/debug/pprof/profile?seconds=%.0f", over.Seconds()))
	if err != nil {
		return fmt.Errorf("read profile: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return fmt.Errorf("read profile: %w", err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return fmt.Errorf("keep profile: %w", err)
	}
	return nil
}

// programming is how many seconds the daemon has spent programming the kernel, by its own metric,
// which nodelet names as kube-proxy does.
func programming() (float64, error) {
	const name = "kubeproxy_sync_proxy_rules_duration_seconds_sum"
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	sum, found := 0.0, false
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if !strings.HasPrefix(s.Text(), name) {
			continue
		}
		v, err := strconv.ParseFloat(s.Text()[strings.LastIndexByte(s.Text(), ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("read metrics: there is no %s", name)
	}
	return sum, nil
}
