package plugin_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sys/unix"

	"nodelet/cni/cnitest"
	"nodelet/cni/plugin"
	"nodelet/internal/netns"
)

// On a disk that is full no pod starts, but pods end, which may be what frees it. What they had is free
// for others when there is room again.
func TestPodsEndOnAFullDisk(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/26")
	dir := n.Config.StateDir
	mount := func(flags uintptr, size string) {
		t.Helper()
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size="+size); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(0, "4k")
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ports := []plugin.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"}}
	pods := []*cnitest.Pod{n.AddPod("first", ports...)}
	var full error
	for i := range 60 {
		p := n.Sandbox(fmt.Sprintf("%02d%s", i, strings.Repeat("0", 62)))
		if full = n.Add(p); full != nil {
			break
		}
		pods = append(pods, p)
	}
	if full == nil || !strings.Contains(full.Error(), "is the disk full?") {
		t.Fatalf("%d pods, then %v", len(pods), full)
	}
	for _, p := range pods {
		if err := n.Del(p, ports...); err != nil {
			t.Errorf("DEL: %v", err)
		}
		_ = p.NS.Close()
		if err := netns.Delete(p.Path); err != nil {
			t.Error(err)
		}
	}
	if rules := n.Run("nft", "list", "table", "inet", "nodelet-cni"); strings.Contains(rules, "8080") {
		t.Errorf("left after DEL:\n%s", rules)
	}
	mount(unix.MS_REMOUNT, "1m")
	next := n.AddPod("next", ports...)
	if err := n.Del(next, ports...); err != nil {
		t.Error(err)
	}
	cni, list, err := n.CNI()
	if err != nil {
		t.Fatal(err)
	}
	n.Do(func() error { return cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{}) })
	nothingLeft(t, n)
}
