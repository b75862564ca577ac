package cni

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodelet/cni/cnitest"
	"nodelet/cni/plugin"
	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// two starts two nodes that know of each other, and a machine outside the cluster.
func two(t *testing.T) (lab *cnitest.Lab, n1, n2 *cnitest.Node, d1, d2 *daemon, outside *cnitest.Host) {
	t.Helper()
	lab = cnitest.New(t)
	n1, n2 = lab.Node("node1", bin), lab.Node("node2", bin)
	for _, n := range []*cnitest.Node{n1, n2} {
		n.Sysctl("ipv4/ip_forward", "0")
		n.Sysctl("ipv6/conf/all/forwarding", "0")
	}
	outside = lab.Host("outside")
	d1, d2 = start(t, lab, n1), start(t, lab, n2)
	for _, d := range []*daemon{d1, d2} {
		d.tell(api1(n1), api2(n2))
	}
	d1.ready(n1)
	d2.ready(n2)
	return lab, n1, n2, d1, d2, outside
}

func api1(n *cnitest.Node) *model.Node { return apiNode(n, "10.244.1.0/24", "fd00:244:1::/64") }
func api2(n *cnitest.Node) *model.Node { return apiNode(n, "10.244.2.0/24", "fd00:244:2::/64") }

func TestTwoNodes(t *testing.T) {
	_, n1, n2, _, _, outside := two(t)
	a, b := n1.AddPod("a"), n2.AddPod("b")
	for _, h := range []*cnitest.Host{a.Host, b.Host, n1.Host, n2.Host, outside} {
		h.ServeTCP(80)
	}
	for _, v6 := range []bool{false, true} {
		ip := func(h *cnitest.Host) netip.Addr {
			if v6 {
				return h.IP6
			}
			return h.IP
		}
		a.Expect("tcp", cnitest.At(ip(b.Host), 80), "b", ip(a.Host))       // inside the cluster pods show their address
		a.Expect("tcp", cnitest.At(ip(n1.Host), 80), "node1", ip(a.Host))  // the own node as well
		a.Expect("tcp", cnitest.At(ip(n2.Host), 80), "node2", ip(n1.Host)) // other machines see the node
		a.Expect("tcp", cnitest.At(ip(outside), 80), "outside", ip(n1.Host))
		n1.Expect("tcp", cnitest.At(ip(b.Host), 80), "b", ip(n1.Host))
	}
	if n1.Config.MTU != cnitest.MTU {
		t.Errorf("pods have mtu %d, the uplink %d", n1.Config.MTU, cnitest.MTU)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	lab, n1, n2, d1, _, _ := two(t)
	routeTo := func(dst string) string {
		return strings.TrimSpace(n1.Run("ip", "route", "show", dst))
	}
	if got := routeTo("10.244.2.0/24"); got != "10.244.2.0/24 via "+n2.IP.String()+" dev eth0 proto 77" {
		t.Errorf("route to node2: %q", got)
	}
	if got := routeTo("10.244.1.0/24"); got != "unreachable 10.244.1.0/24 proto 77" {
		t.Errorf("own pod CIDR: %q", got)
	}
	// An unknown pod of this node is refused at once and leaves nothing on the wire.
	began := time.Now()
	if _, err := n1.Ask("tcp", netip.MustParseAddr("10.244.1.200"), 80, netip.Addr{}); err == nil || time.Since(began) > time.Second {
		t.Errorf("a pod that is gone: %v after %v", err, time.Since(began))
	}
	n1.Run("ip", "route", "add", "10.99.0.0/16", "via", n2.IP.String()) // somebody else's
	d1.tell(api1(n1))
	eventually(t, "route to node2 is removed", func() bool { return routeTo("10.244.2.0/24") == "" })
	if routeTo("10.99.0.0/16") == "" {
		t.Error("a foreign route was removed")
	}
	moved := api2(n2)
	moved.InternalIPs = []netip.Addr{lab.Host("elsewhere").IP}
	d1.tell(api1(n1), moved)
	eventually(t, "route by the new address", func() bool { return strings.Contains(routeTo("10.244.2.0/24"), moved.InternalIPs[0].String()) })
	far := api2(n2)
	far.InternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	d1.tell(api1(n1), far)
	eventually(t, "the unreachable node is named", func() bool { return d1.log.has("node2: pods in 10.244.2.0/24 cannot be reached") })
	if routeTo("10.244.2.0/24") != "" {
		t.Error("a route to nowhere stayed")
	}
}

// TestDrift removes what the daemon has made, piece by piece.
func TestDrift(t *testing.T) {
	_, n1, n2, _, _, outside := two(t)
	a := n1.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80})
	b := n2.AddPod("b")
	a.ServeTCP(80)
	b.ServeTCP(80)
	outside.ServeTCP(80)
	works := func() bool {
		x, _ := a.Ask("tcp", outside.IP, 80, netip.Addr{})
		y, _ := b.Ask("tcp", a.IP, 80, netip.Addr{})
		z, _ := outside.Ask("tcp", n1.IP, 8080, netip.Addr{})
		return x == "outside "+n1.IP.String() && y == "a "+b.IP.String() && z == "a "+outside.IP.String()
	}
	if !works() {
		t.Fatal("does not work to begin with")
	}
	for _, harm := range [][]string{
		{"nft", "flush", "ruleset"},
		{"nft", "delete", "table", "inet", "nodelet-cni"},
		{"nft", "flush", "chain", "inet", "nodelet-cni", "postrouting"},
		{"nft", "flush", "map", "inet", "nodelet-cni", "hostports-any4"},
		{"nft", "insert", "rule", "inet", "nodelet-cni", "prerouting", "return"},
		{"ip", "route", "flush", "proto", "77"},
		{"ip", "route", "del", a.IP.String() + "/32"},
		{"ip", "link", "set", "eth0", "down"},
		{"sh", "-c", "ip neigh flush nud permanent; ip neigh show nud permanent | grep -q . && exit 1 || true"},
		{"ip", "link", "set", a.Result.Interfaces[0].Name, "down"},
	} {
		n1.Run(harm[0], harm[1:]...)
		if harm[1] == "link" && harm[3] == "eth0" {
			n1.Run("ip", "link", "set", "eth0", "up")
		}
		took := eventually(t, strings.Join(harm, " ")+" is repaired", works)
		t.Logf("%-60s repaired after %v", strings.Join(harm, " "), took.Round(time.Millisecond))
	}
}

func TestKilledDaemon(t *testing.T) {
	lab, n1, n2, d1, _, outside := two(t)
	a, b := n1.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80}), n2.AddPod("b")
	a.ServeTCP(80)
	outside.ServeTCP(80)
	d1.kill()
	outside.Expect("tcp", cnitest.At(n1.IP, 8080), "a", outside.IP)
	a.Expect("tcp", cnitest.At(outside.IP, 80), "outside", n1.IP)
	b.Expect("tcp", cnitest.At(a.IP, 80), "a", b.IP)
	c := n1.AddPod("c") // pods start without the daemon
	c.Expect("tcp", cnitest.At(a.IP, 80), "a", c.IP)
	// While it is down a sandbox vanishes without a DEL.
	_ = c.NS.Close()
	if err := netns.Delete(c.Path); err != nil {
		t.Fatal(err)
	}
	again := start(t, lab, n1)
	again.tell(api1(n1), api2(n2))
	eventually(t, "the vanished sandbox is released", func() bool {
		got, err := Attachments(again.cfg.StateDir)
		return err == nil && len(got) == 1 && got[0].ContainerID == "a"
	})
	b.Expect("tcp", cnitest.At(a.IP, 80), "a", b.IP)
	if again.log.has("repaired") || again.log.has("set route") {
		t.Error("a restarted daemon changed what was right")
	}
}

// TestHiddenNamespaces: a daemon that does not see the sandboxes' namespaces,
// as in a container without that mount, releases nothing.
func TestHiddenNamespaces(t *testing.T) {
	_, n1, _, d1, _, _ := two(t)
	a := n1.AddPod("a")
	if err := netns.Delete(a.Path); err != nil { // the path is gone, the namespace is not
		t.Fatal(err)
	}
	a.ServeTCP(80)
	for range 3 { // each change wakes the daemon
		n1.Run("ip", "route", "add", "10.99.0.0/16", "via", n1.IP.String())
		n1.Run("ip", "route", "del", "10.99.0.0/16")
		time.Sleep(2 * pause) // nothing must happen in that time
	}
	if got, err := Attachments(d1.cfg.StateDir); err != nil || len(got) != 1 {
		t.Errorf("attachments: %v %v", got, err)
	}
	n1.Expect("tcp", cnitest.At(a.IP, 80), "a", n1.IP)
}

// TestStop: asked to end, the feature ends, leaves no goroutine, and leaves the
// network as it is.
func TestStop(t *testing.T) {
	_, n1, _, d1, _, outside := two(t)
	a := n1.AddPod("a")
	outside.ServeTCP(80)
	if err := d1.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d1.cmd.Wait(); err != nil {
		t.Fatalf("end of the daemon: %v", err)
	}
	a.Expect("tcp", cnitest.At(outside.IP, 80), "outside", n1.IP)
}

// TestNothingBeforeSynced: without a list of nodes nothing is touched, and
// without a pod CIDR there is no configuration.
func TestNothingBeforeSynced(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin)
	n.In(func(c *nl.Conn) error {
		l, err := c.Link("eth0")
		if err != nil {
			return err
		}
		return c.ReplaceRoute(nl.Route{Dst: netip.MustParsePrefix("10.244.7.0/24"), Via: netip.MustParseAddr("192.0.2.77"), Link: l.Index})
	})
	d := start(t, lab, n)
	d.tell(&model.Node{Name: "node1"})
	eventually(t, "it says what it waits for", func() bool { return d.log.has("node node1 has none yet") })
	if _, err := os.Stat(d.cfg.ConfListPath()); err == nil {
		t.Error("there is a configuration without a pod CIDR")
	}
	if out := n.Run("ip", "route", "show", "proto", "77"); !strings.Contains(out, "10.244.7.0/24") {
		t.Error("an earlier route was removed before its node was known to be gone")
	}
	d.tell(api1(n))
	d.ready(n)
	if out := n.Run("ip", "route", "show", "proto", "77"); strings.Contains(out, "10.244.7.0/24") {
		t.Error("the route of a node that is gone stayed")
	}
}

func TestForeignFirewalls(t *testing.T) {
	for name, rules := range map[string][]string{
		"Docker, iptables-nft":    {"iptables-nft -N DOCKER-USER", "iptables-nft -A FORWARD -j DOCKER-USER", "iptables-nft -P FORWARD DROP"},
		"Docker, iptables-legacy": {"iptables-legacy -N DOCKER-USER", "iptables-legacy -P FORWARD DROP"},
		"ufw":                     {"iptables-nft -N ufw-before-forward", "iptables-nft -P FORWARD DROP"},
		"nftables.conf":           {"nft add table inet filter", "nft add chain inet filter forward { type filter hook forward priority 0; policy drop; }"},
		"firewalld": {"nft add table inet firewalld", "nft add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }",
			"nft add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited"},
	} {
		t.Run(name, func(t *testing.T) {
			lab := cnitest.New(t)
			n1, n2 := lab.Node("node1", bin), lab.Node("node2", bin)
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(lab.Dir, "xtables.lock"))
			for _, r := range rules {
				n1.Run("sh", "-c", strings.NewReplacer("{", "'{", "}", "}'").Replace(r))
			}
			d1, d2 := start(t, lab, n1), start(t, lab, n2)
			d1.tell(api1(n1), api2(n2))
			d2.tell(api1(n1), api2(n2))
			d1.ready(n1)
			d2.ready(n2)
			a, b, c := n1.AddPod("a"), n2.AddPod("b"), n1.AddPod("c")
			a.ServeTCP(80)
			b.ServeTCP(80)
			a.Expect("tcp", cnitest.At(b.IP, 80), "b", a.IP)
			b.Expect("tcp", cnitest.At(a.IP, 80), "a", b.IP)
			c.Expect("tcp", cnitest.At(a.IP, 80), "a", c.IP)
			owner, _, _ := strings.Cut(name, ",")
			if owner == "nftables.conf" {
				owner = "inet filter forward"
			}
			if !d1.log.has("a firewall drops forwarded packets") || !d1.log.has(owner) {
				t.Errorf("the log does not name %s", owner)
			}
			before := n1.Run("sh", "-c", "nft list ruleset; iptables-legacy -S FORWARD")
			d1.kill()
			n1.Do(func() error { return Cleanup(context.Background(), d1.cfg, slog.New(slog.DiscardHandler)) })
			after := n1.Run("sh", "-c", "nft list ruleset; iptables-legacy -S FORWARD")
			if strings.Contains(strings.ToLower(after), "nodelet") || !strings.Contains(strings.ToLower(before), "nodelet") {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			b.ExpectNothing("tcp", a.IP, 80)
		})
	}
}

// TestFirewallStartsLater: Docker is installed on a running node.
func TestFirewallStartsLater(t *testing.T) {
	lab, n1, n2, _, _, _ := two(t)
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(lab.Dir, "xtables.lock"))
	a, b := n1.AddPod("a"), n2.AddPod("b")
	b.ServeTCP(80)
	a.Expect("tcp", cnitest.At(b.IP, 80), "b", a.IP)
	n1.Run("iptables-nft", "-P", "FORWARD", "DROP")
	took := eventually(t, "pods pass the new firewall", func() bool {
		_, err := a.Ask("tcp", b.IP, 80, netip.Addr{})
		return err == nil
	})
	t.Logf("after %v", took.Round(time.Millisecond))
}

func TestCleanup(t *testing.T) {
	_, n1, _, d1, _, _ := two(t)
	n1.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80})
	n1.AddPod("b")
	d1.kill()
	var before, after []string
	n1.Do(func() (err error) {
		if before, err = Residue(context.Background(), d1.cfg); err != nil {
			return err
		}
		if err := Cleanup(context.Background(), d1.cfg, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		after, err = Residue(context.Background(), d1.cfg)
		return err
	})
	// Other runtimes of this machine share libcni's directory.
	before = slices.DeleteFunc(before, func(s string) bool { return strings.Contains(s, cacheDir) })
	// Configuration, table, two links, four routes, two namespaces, the state.
	if len(after) != 0 || len(before) != 11 {
		t.Errorf("before cleanup: %d things: %v\nafter: %v", len(before), before, after)
	}
	for _, cmd := range []string{"ip -o link show group 77", "ip route show proto 77", "ip -6 route show proto 77", "nft list ruleset", "ip neigh show nud permanent"} {
		if out := n1.Run("sh", "-c", cmd); strings.TrimSpace(out) != "" {
			t.Errorf("%s: %s", cmd, out)
		}
	}
	if _, err := os.Stat(d1.cfg.StateDir); err == nil {
		t.Error("the state directory is still there")
	}
	n1.Do(func() error { return Cleanup(context.Background(), d1.cfg, slog.New(slog.DiscardHandler)) }) // once more
}

// TestCachedResults: of what runtimes keep of ADD's answers only this node's goes.
func TestCachedResults(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	n.AddPod("a")
	cache := filepath.Join(lab.Dir, "node1", "cache")
	for path, text := range map[string]string{"other": `{"config":"e30="}`, "broken": "{"} {
		if err := os.WriteFile(filepath.Join(cache, "results", path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config(lab, n)
	other := cfg
	other.StateDir = filepath.Dir(cfg.StateDir)
	if things, err := cachedResults(other, cache); err != nil || len(things) != 0 {
		t.Errorf("another node's: %v %v", things, err)
	}
	things, err := cachedResults(cfg, cache)
	if err != nil || len(things) != 1 || !strings.HasSuffix(things[0].name, "nodelet-a-eth0") {
		t.Fatalf("ours: %v %v", things, err)
	}
	if err := things[0].remove(); err != nil {
		t.Error(err)
	}
	torn := filepath.Join(cache, "results", "nodelet-b-eth0")
	if err := os.WriteFile(torn, []byte(`{"kind":"cniCach`), 0o600); err != nil {
		t.Fatal(err)
	}
	if things, err = cachedResults(cfg, cache); err != nil || len(things) != 1 || things[0].remove() != nil {
		t.Errorf("one that was half written: %v %v", things, err)
	}
	left, err := os.ReadDir(filepath.Join(cache, "results"))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v %v", left, err)
	}
	for _, e := range left {
		if err := os.Remove(filepath.Join(cache, "results", e.Name())); err != nil {
			t.Error(err)
		}
	}
	if things, err = cachedResults(cfg, cache); err != nil || len(things) != 1 || things[0].remove() != nil {
		t.Errorf("an empty directory: %v %v", things, err)
	}
	if _, err := os.Stat(cache); err == nil {
		t.Error("the empty directories are left")
	}
}

func TestConfigIsValidated(t *testing.T) {
	_, err := New(Config{MTU: 100, ConfDir: "x"}, Deps{})
	for _, want := range []string{"node name is empty", `configuration directory "x"`, `state directory ""`, "pod mtu 100"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

// TestRouteLocalnetIsNeverSet: CVE-2020-8558.
func TestRouteLocalnetIsNeverSet(t *testing.T) {
	_, n1, _, _, _, _ := two(t)
	n1.AddPod("a", plugin.PortMapping{HostPort: 8080, ContainerPort: 80, HostIP: "127.0.0.1"})
	n1.Do(func() error {
		out, err := exec.Command("sh", "-c", "cat /proc/sys/net/ipv4/conf/*/route_localnet | sort -u").Output()
		if got := strings.TrimSpace(string(out)); got != "0" {
			t.Errorf("route_localnet: %q", got)
		}
		return err
	})
}
