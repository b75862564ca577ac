package podresources

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"

	"nodelet/agent/exclusive/cpuplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served runs a server over a store and connects to it as a monitoring agent does.
func served(t *testing.T) (*store.Writers, api.PodResourcesListerClient, func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pr") //nolint:usetesting // its long names would overflow the limit of unix socket paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "pod-resources", "kubelet.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // of an earlier process
		t.Fatal(err)
	}
	s, writers := store.New()
	var mu sync.Mutex
	var asked []string
	server := New(path, Deps{
		Store: s,
		Devices: func() map[string][]model.Device {
			return map[string][]model.Device{"v/gpu": {{ID: "a", NUMA: []int64{0}}, {ID: "b", NUMA: []int64{1}}, {ID: "c", NUMA: []int64{0}}}, "v/nic": {{ID: "n"}}}
		},
		CPUs: func() cpuplan.Set { set, _ := cpuplan.Parse("1-3"); return set },
		Asked: func(method string) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, method)
		},
		Failed: func(method string) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, method+" failed")
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return writers, api.NewPodResourcesListerClient(conn), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(asked)
	}
}

func pod(name string, phase corev1.PodPhase) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}, Status: corev1.PodStatus{Phase: phase},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "init"}, {Name: "sidecar", RestartPolicy: &always}},
			Containers:     []corev1.Container{{Name: "main"}},
		},
	}
}

// line is a pod's resources on one line.
func line(p *api.PodResources) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s", p.GetNamespace(), p.GetName())
	for _, c := range p.GetContainers() {
		fmt.Fprintf(&b, " %s cpus=%v", c.GetName(), c.GetCpuIds())
		b.WriteString(near(c.GetDevices()))
		for _, d := range c.GetDynamicResources() {
			fmt.Fprintf(&b, " claim %s/%s", d.GetClaimNamespace(), d.GetClaimName())
			for _, r := range d.GetClaimResources() {
				fmt.Fprintf(&b, " %s/%s/%s share=%s", r.GetDriverName(), r.GetPoolName(), r.GetDeviceName(), r.GetShareId())
				for _, x := range r.GetCdiDevices() {
					fmt.Fprintf(&b, " %s", x.GetName())
				}
			}
		}
	}
	return b.String()
}

func near(all []*api.ContainerDevices) string {
	var b strings.Builder
	for _, d := range all {
		fmt.Fprintf(&b, " %s=%v", d.GetResourceName(), d.GetDeviceIds())
		for _, n := range d.GetTopology().GetNodes() {
			fmt.Fprintf(&b, "@%d", n.GetID())
		}
	}
	return b.String()
}

// List has the pods that have not ended, with what their containers have; an init container that has run
// to its end holds nothing.
func TestListAndGet(t *testing.T) {
	writers, client, asked := served(t)
	writers.Pods.Replace(map[model.UID]*corev1.Pod{
		"plain": pod("plain", corev1.PodPending), "has": pod("has", corev1.PodRunning),
		"done": pod("done", corev1.PodSucceeded), "failed": pod("failed", corev1.PodFailed),
	})
	writers.Grants.Replace(map[model.UID]*model.Grant{"has": {UID: "has", Containers: map[string]model.ContainerGrant{
		"main":    {CPUs: "2-3", Devices: map[string][]model.Device{"v/nic": {{ID: "n"}}, "v/gpu": {{ID: "a", NUMA: []int64{0}}, {ID: "b", NUMA: []int64{1}}, {ID: "c", NUMA: []int64{0}}}}},
		"sidecar": {Devices: map[string][]model.Device{"v/nic": {{ID: "m", NUMA: []int64{0, 1}}}}},
		"init":    {CPUs: "1"},
	}}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := client.List(ctx, &api.ListPodResourcesRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range resp.GetPodResources() {
		got = append(got, line(p))
	}
	has := "ns/has sidecar cpus=[] v/nic=[m]@0@1 main cpus=[2 3] v/gpu=[a c]@0 v/gpu=[b]@1 v/nic=[n]"
	if want := []string{has, "ns/plain sidecar cpus=[] main cpus=[]"}; !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one, err := client.Get(ctx, &api.GetPodResourcesRequest{PodNamespace: "ns", PodName: "has"})
	if err != nil || line(one.GetPodResources()) != has {
		t.Errorf("%s %v", line(one.GetPodResources()), err)
	}
	for _, name := range []string{"done", "nobody"} {
		if _, err := client.Get(ctx, &api.GetPodResourcesRequest{PodNamespace: "ns", PodName: name}); status.Code(err) != codes.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := asked(); !slices.Equal(got, []string{"List", "Get", "Get", "Get failed", "Get", "Get failed"}) {
		t.Errorf("counted %v", got)
	}
}

// A container has the claims that it names, with all their devices (KEP-3695).
func TestClaims(t *testing.T) {
	writers, client, _ := served(t)
	p, name := pod("p", corev1.PodRunning), "c"
	p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "mine", ResourceClaimName: &name}}
	p.Spec.Containers[0].Resources.Claims = []corev1.ResourceClaim{{Name: "mine", Request: "big"}}
	writers.Pods.Replace(map[model.UID]*corev1.Pod{"p": p})
	writers.Prepared.Set("p", &model.PodDevices{UID: "p", Ready: true, Claims: []model.PreparedClaim{{Name: "c", Devices: []model.PreparedDevice{
		{Driver: "d.com", Pool: "pool", Device: "a", Share: "s", Requests: []string{"big"}, CDI: []string{"d.com/x=a", "d.com/x=b"}},
		{Driver: "d.com", Pool: "pool", Device: "b", Requests: []string{"small"}},
	}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	one, err := client.Get(ctx, &api.GetPodResourcesRequest{PodNamespace: "ns", PodName: "p"}, grpc.WaitForReady(true))
	want := "ns/p sidecar cpus=[] main cpus=[] claim ns/c d.com/pool/a share=s d.com/x=a d.com/x=b d.com/pool/b share="
	if got := line(one.GetPodResources()); err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

// Allocatable is all there is to have, whoever has it.
func TestAllocatable(t *testing.T) {
	_, client, _ := served(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := client.GetAllocatableResources(ctx, &api.AllocatableResourcesRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(resp.GetCpuIds(), near(resp.GetDevices())), "[1 2 3] v/gpu=[a c]@0 v/gpu=[b]@1 v/nic=[n]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
