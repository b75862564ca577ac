package proxy_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nodelet/internal/netns"
	"nodelet/proxy"
)

// kubeProxyLeft is what an upstream kube-proxy leaves in iptables, less the numbers.
const kubeProxyLeft = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SEP-XYZ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-XYZ
-A KUBE-SEP-XYZ -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:6443
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A INPUT -j KUBE-FIREWALL
COMMIT
`

func TestForeign(t *testing.T) {
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	for _, restore := range []string{"iptables-legacy-restore", "iptables-nft-restore"} {
		ns, err := netns.New()
		if err != nil {
			t.Skipf("needs network namespaces: %v", err)
		}
		defer ns.Close()
		run := func(name string, stdin string, args ...string) string {
			t.Helper()
			var out []byte
			if err := ns.Do(func() (err error) {
				cmd := exec.Command(name, args...)
				cmd.Stdin = strings.NewReader(stdin)
				out, err = cmd.CombinedOutput()
				return err
			}); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			return string(out)
		}
		if found, err := proxy.Foreign(t.Context(), ns.Fd()); err != nil || len(found) != 0 {
			t.Errorf("an empty namespace: %v %v", found, err)
		}
		run(restore, kubeProxyLeft)
		run("nft", "", "add", "table", "ip6", "kube-proxy")
		found, err := proxy.Foreign(t.Context(), ns.Fd())
		if err != nil || len(found) != 3 {
			t.Errorf("%s: found %q %v", restore, found, err)
		}
		if removed, err := proxy.CleanupForeign(t.Context(), ns.Fd()); err != nil || len(removed) != 3 {
			t.Errorf("%s: removed %q %v", restore, removed, err)
		}
		if found, err := proxy.Foreign(t.Context(), ns.Fd()); err != nil || len(found) != 0 {
			t.Errorf("%s: left %q %v", restore, found, err)
		}
		left := run(strings.TrimSuffix(restore, "-restore")+"-save", "")
		for _, stays := range []string{":MINE", "-A PREROUTING -j MINE", ":KUBE-KUBELET-CANARY", "-A INPUT -j KUBE-FIREWALL"} {
			if !strings.Contains(left, stays) {
				t.Errorf("%s: %q is gone:\n%s", restore, stays, left)
			}
		}
		for _, gone := range []string{"KUBE-SERVICES", "KUBE-SEP", "KUBE-FORWARD"} {
			if strings.Contains(left, gone) {
				t.Errorf("%s: %q is still there:\n%s", restore, gone, left)
			}
		}
	}
}
