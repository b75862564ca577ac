package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/internal/cgroup"
)

func TestEnforcementIsChecked(t *testing.T) {
	for _, c := range []struct {
		node               []string
		kube, system, cpus string
		want               string
	}{
		{}, {node: []string{}}, {node: []string{"none"}}, {node: []string{"pods"}}, {cpus: "0"},
		{node: []string{"pods", "kube-reserved", "system-reserved-compressible"}, kube: "/kube", system: "/system"},
		{node: []string{"pods", "none"}, want: "none excludes"},
		{node: []string{"pods", "pods"}, want: "twice"},
		{node: []string{"everything"}, want: `"everything" is none of`},
		{node: []string{"kube-reserved"}, want: "needs kubeReservedCgroup"},
		{node: []string{"system-reserved-compressible"}, kube: "/kube", want: "needs systemReservedCgroup"},
		{node: []string{"kube-reserved", "kube-reserved-compressible"}, kube: "/kube", want: "not both"},
		{node: []string{"system-reserved", "system-reserved-compressible"}, system: "/s", want: "not both"},
		{cpus: "0-x", want: "reservedSystemCPUs"},
		{cpus: "0", system: "/s", want: "excludes"},
	} {
		e := Enforcement{Node: c.node, KubeCgroup: c.kube, SystemCgroup: c.system}
		err := e.check(c.cpus)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestReservedCgroups(t *testing.T) {
	list := corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Mi")}
	for _, c := range []struct {
		node []string
		want string
		pods bool
	}{
		{nil, "", true}, {[]string{}, "", false}, {[]string{"none"}, "", false}, {[]string{"pods"}, "", true},
		{[]string{"kube-reserved", "system-reserved-compressible"}, "system /s 1024 0, kube /k 1024 1048576", false},
		{[]string{"pods", "kube-reserved-compressible"}, "kube /k 1024 0", true},
	} {
		k := KubeletOptions{KubeReserved: list, SystemReserved: list, Enforce: Enforcement{Node: c.node, KubeCgroup: "/k", SystemCgroup: "/s"}}
		var got []string
		for _, r := range k.reservedCgroups() {
			got = append(got, fmt.Sprintf("%s %s %d %d", r.what, r.name, r.limits.CPUShares, r.limits.Memory))
		}
		if s := strings.Join(got, ", "); s != c.want || k.Enforce.pods() != c.pods {
			t.Errorf("%v: %s, pods %t", c.node, s, k.Enforce.pods())
		}
	}
}

// A cgroup that is to be limited and is not there, and CPUs that are not there, keep the daemon from starting.
func TestReservedIsChecked(t *testing.T) {
	mount := t.TempDir()
	info := filepath.Join(t.TempDir(), "mountinfo")
	line := "25 1 0:22 / " + mount + " rw - cgroup2 cgroup2 rw\n"
	err := errors.Join(os.WriteFile(info, []byte(line), 0o600),
		os.WriteFile(filepath.Join(mount, "cgroup.controllers"), []byte("cpu memory pids\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := cgroup.New(cgroup.Config{Root: "kubepods", Mount: mount, MountInfo: info}, cgroup.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: Defaults()}
	p := &agentParts{n: n, cgroups: tree}
	if err := p.checkReserved(); err != nil {
		t.Fatalf("nothing reserved: %v", err)
	}
	n.cfg.Kubelet.KubeReserved = corev1.ResourceList{"memory": resource.MustParse("1Mi")}
	n.cfg.Kubelet.Enforce = Enforcement{Node: []string{"kube-reserved"}, KubeCgroup: "/kube"}
	n.cfg.Kubelet.CPUPolicy.Reserved = "0,4095"
	err = p.checkReserved()
	for _, want := range []string{"kubeReservedCgroup: there is no cgroup", "mkdir -p " + mount + "/kube", "no CPU 4095"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := os.Mkdir(filepath.Join(mount, "kube"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.cfg.Kubelet.CPUPolicy.Reserved = "0"
	if err := p.checkReserved(); err != nil {
		t.Errorf("all is there: %v", err)
	}
}
