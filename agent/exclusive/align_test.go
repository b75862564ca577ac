package exclusive

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/plugintest"
	"nodelet/internal/model"
)

// put puts a pod onto the node.
func (w *world) put(name string, p *corev1.Pod) {
	p.UID = types.UID(name)
	w.change(name, p)
	w.w.Allocations.Set(model.UID(name), &model.Allocation{UID: model.UID(name)})
}

// twoNodes has four CPUs on each of two NUMA nodes; CPU 0 is reserved.
func twoNodes(t *testing.T) *CPUs {
	c := machine(t, 8)
	for i := range c.Topology {
		c.Topology[i].NUMA, c.Topology[i].Socket = i/4, i/4
	}
	return c
}

func aligned(t *testing.T, policy alignplan.Policy, pods bool) *world {
	w := newWorld(t, twoNodes(t))
	w.stop()
	w.align = Align{Policy: policy, Pod: pods, Nodes: w.cpus.Topology.Nodes()}
	w.boot()
	return w
}

// both puts a pod onto the node whose containers ask for CPUs and devices.
func (w *world) both(name string, cpus, gpus string, containers ...string) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: "1"}}
	for _, c := range containers {
		list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpus), corev1.ResourceMemory: resource.MustParse("1Mi"), gpu: resource.MustParse(gpus)}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Resources: corev1.ResourceRequirements{Limits: list, Requests: list}})
	}
	w.put(name, p)
}

func TestNearToItsDevice(t *testing.T) {
	for _, policy := range []alignplan.Policy{alignplan.BestEffort, alignplan.Restricted, alignplan.SingleNode} {
		w := aligned(t, policy, false)
		w.plugin(&plugintest.Plugin{}, "a@1", "b@1", "c@0")
		w.has("[{vendor.com/gpu 3 3}]")
		w.both("one", "2", "2", "x")
		expect(t, w.grant("one"), "x cpus=4-5 vendor.com/gpu=a@1,b@1")
		w.both("two", "2", "1", "x")
		expect(t, w.grant("two"), "x cpus=2-3 vendor.com/gpu=c@0")
	}
}

func TestNowhereNear(t *testing.T) {
	for policy, want := range map[alignplan.Policy]string{
		alignplan.None:       "x cpus=4-7 vendor.com/gpu=a@0",
		alignplan.BestEffort: "x cpus=1-4 vendor.com/gpu=a@0",
		alignplan.Restricted: " rejected: TopologyAffinityError: Pod was rejected: Resources cannot be allocated with Topology locality",
		alignplan.SingleNode: " rejected: TopologyAffinityError: Pod was rejected: Resources cannot be allocated with Topology locality",
	} {
		w := aligned(t, policy, false)
		w.plugin(&plugintest.Plugin{}, "a@0")
		w.has("[{vendor.com/gpu 1 1}]")
		w.both("one", "4", "1", "x") // node 0 has a CPU too few, as one is reserved
		expect(t, w.grant("one"), want)
	}
}

func TestPodsAreAligned(t *testing.T) {
	w := aligned(t, alignplan.SingleNode, true)
	w.plugin(&plugintest.Plugin{}, "a@0", "b@1", "c@1")
	w.has("[{vendor.com/gpu 3 3}]")
	w.both("one", "2", "1", "x", "y") // together only node 1 holds them
	expect(t, w.grant("one"), "x cpus=4-5 vendor.com/gpu=b@1; y cpus=6-7 vendor.com/gpu=c@1")
	w.both("two", "1", "1", "x", "y")
	if got := w.grant("two"); !strings.Contains(got, "TopologyAffinityError") {
		t.Error(got)
	}
}

// The plugin's own preference is asked for among those that are near.
func TestPreferenceIsAmongTheNear(t *testing.T) {
	w := aligned(t, alignplan.SingleNode, false)
	w.plugin(&plugintest.Plugin{
		Options: &pluginapi.DevicePluginOptions{GetPreferredAllocationAvailable: true},
		OnPrefer: func(_ context.Context, q *pluginapi.ContainerPreferredAllocationRequest) ([]string, error) {
			return []string{q.AvailableDeviceIDs[len(q.AvailableDeviceIDs)-1]}, nil
		},
	}, "a@1", "b@1", "c@0", "d@0")
	w.has("[{vendor.com/gpu 4 4}]")
	w.both("one", "4", "1", "x")
	expect(t, w.grant("one"), "x cpus=4-7 vendor.com/gpu=b@1")
}

// A pod that needs two plugins, of which one is late after the daemon's start, is served when both are there;
// until then nothing is prepared for it.
func TestOneOfTwoPluginsIsLate(t *testing.T) {
	const nic = "vendor.com/nic"
	w := newWorld(t, nil)
	p := w.plugin(&plugintest.Plugin{}, "a")
	late := w.plugin(&plugintest.Plugin{Resource: nic}, "n")
	w.has("[{vendor.com/gpu 1 1} {vendor.com/nic 1 1}]")
	w.stop()
	late.Stop()
	w.boot()
	w.has("[{vendor.com/gpu 1 1} {vendor.com/nic 1 0}]")
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "one", ResourceVersion: "1"}}
	list := corev1.ResourceList{gpu: resource.MustParse("1"), nic: resource.MustParse("1")}
	pod.Spec.Containers = []corev1.Container{{Name: "x", Resources: corev1.ResourceRequirements{Limits: list, Requests: list}}}
	w.put("one", pod)
	w.plugin(&plugintest.Plugin{Resource: nic}, "n")
	expect(t, w.grant("one"), "x vendor.com/gpu=a vendor.com/nic=n")
	expect(t, p.Calls(), "allocate a")
}
