package volume

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"nodelet/agent/volume/csi/csitest"
	"nodelet/internal/model"
)

// patched gives a claim after a strategic merge patch of its status, as the API server does.
func patched(c *model.Claim, patch []byte) (*model.Claim, error) {
	var meta struct {
		Metadata struct{ ResourceVersion string }
	}
	old, err := json.Marshal(c.Claim)
	if err == nil {
		err = json.Unmarshal(patch, &meta)
	}
	if err != nil {
		return nil, err
	}
	if v := meta.Metadata.ResourceVersion; v != "" && v != c.Claim.ResourceVersion {
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "persistentvolumeclaims"}, c.Key.Name, fmt.Errorf("version %s, not %s", c.Claim.ResourceVersion, v))
	}
	text, err := strategicpatch.StrategicMergePatch(old, patch, c.Claim)
	if err != nil {
		return nil, err
	}
	out := *c
	out.Claim = &corev1.PersistentVolumeClaim{}
	if err := json.Unmarshal(text, out.Claim); err != nil {
		return nil, err
	}
	out.Claim.ResourceVersion += "0"
	return &out, nil
}

var data = model.Key{Namespace: "ns", Name: "data"}

// grow makes claim ns/data what text says, with a volume of 2 GiB, in the API, and then in the store.
func (d *driven) grow(text string) {
	d.t.Helper()
	c, _ := d.store.Snapshot().Claims.Get(data)
	next := *c
	next.Volume, next.Claim = c.Volume.DeepCopy(), c.Claim.DeepCopy()
	next.Volume.Spec.Capacity = corev1.ResourceList{"storage": resource.MustParse("2Gi")}
	next.Claim.Status.Conditions = nil
	if err := yaml.UnmarshalStrict([]byte(text), next.Claim); err != nil {
		d.t.Fatal(err)
	}
	next.Claim.ResourceVersion += "1"
	d.api.mu.Lock()
	d.api.live = &next
	d.api.mu.Unlock()
	d.w.Claims.Set(data, &next)
}

// told is what the claim's status says in the API.
func (d *driven) told() string {
	d.api.mu.Lock()
	defer d.api.mu.Unlock()
	st := d.api.live.Claim.Status
	size := st.Capacity["storage"]
	text := strings.TrimSpace(size.String() + " " + string(st.AllocatedResourceStatuses["storage"]))
	for _, c := range st.Conditions {
		text += fmt.Sprintf(" %s: %s", c.Type, c.Message)
	}
	return text
}

const (
	small   = "status: {capacity: {storage: 1Gi}}"
	pending = `
spec: {resources: {requests: {storage: 2Gi}}}
status:
  capacity: {storage: 1Gi}
  allocatedResources: {storage: 2Gi}
  allocatedResourceStatuses: {storage: NodeResizePending}
  conditions: [{type: FileSystemResizePending, status: "True"}, {type: Other, status: "True", message: stays}]
`
)

// running is a pod with a volume of 1 GiB.
func running(t *testing.T) *driven {
	d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
	d.claim("data", persistent("vol-1")+"\ncapacity: {storage: 1Gi}")
	c, _ := d.store.Snapshot().Claims.Get(data)
	c.Claim.Status.Capacity = corev1.ResourceList{"storage": resource.MustParse("1Gi")}
	d.api.live = c
	d.sync(claimPod(t, 1, "data"))
	d.ready(uid(1))
	return d
}

func (d *driven) is(what, want string) {
	d.t.Helper()
	defer func() {
		if d.t.Failed() {
			d.t.Logf("told %q, want %q", d.told(), want)
		}
	}()
	d.until(what, func() bool { return d.told() == want })
}

// A volume grows under a pod that runs, once, whatever daemon comes.
func TestAVolumeInUseIsExpanded(t *testing.T) {
	d := running(t)
	d.grow(pending)
	d.is("told", "2Gi Other: stays")
	if got := d.driver.Expanded("vol-1"); got != 2<<30 {
		t.Fatalf("expanded to %d", got)
	}
	d.until("noted", func() bool { return strings.Contains(d.events.String(), "FileSystemResizeSuccessful") })
	d.look(uid(1))
	d.restart()
	d.claim("data", persistent("vol-1")+"\ncapacity: {storage: 2Gi}")
	d.sync(claimPod(t, 1, "data"))
	d.ready(uid(1))
	if n := d.called("NodeExpandVolume vol-1"); n != 1 {
		t.Errorf("expanded %d times", n)
	}
}

// The pod goes on with a volume that does not grow; it is tried again until it does.
func TestAVolumeInUseThatIsNotExpanded(t *testing.T) {
	d := running(t)
	d.driver.Refuse("NodeExpandVolume", "vol-1", codes.Internal)
	d.grow(pending)
	const failed = "NodeResizeError: failed to expand pvc with rpc error: code = Internal desc = refused"
	d.until("told", func() bool {
		return strings.HasPrefix(d.told(), "1Gi NodeResizeInProgress") && strings.Contains(d.told(), failed)
	})
	d.until("tried again", func() bool { return d.called("NodeExpandVolume vol-1") > 2 })
	if row := d.ready(uid(1)); row.HostPaths["data"] == "" {
		t.Error("the pod lost its volume")
	}
	if !strings.Contains(d.events.String(), "VolumeResizeFailed") || strings.Contains(d.events.String(), "FailedMount") {
		t.Errorf("events\n%s", d.events)
	}
	d.driver.Refuse("NodeExpandVolume", "vol-1", codes.OK)
	d.is("told", "2Gi Other: stays")
}

// KEP-1790: what cannot be is said to be infeasible, and not tried again until the controller has set another size.
func TestAnExpansionThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		code  codes.Code
		claim string
	}{
		"refused for its size":         {codes.OutOfRange, pending},
		"refused, and not wanted more": {codes.Internal, strings.Replace(pending, "requests: {storage: 2Gi}", "requests: {storage: 1500Mi}", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			d := running(t)
			d.driver.Refuse("NodeExpandVolume", "vol-1", c.code)
			d.grow(c.claim)
			d.until("given up", func() bool { return strings.HasPrefix(d.told(), "1Gi NodeResizeInfeasible") })
			calls := d.called("NodeExpandVolume vol-1")
			d.look(uid(1))
			if n := d.called("NodeExpandVolume vol-1"); n != calls {
				t.Errorf("tried %d times more", n-calls)
			}
			d.driver.Refuse("NodeExpandVolume", "vol-1", codes.OK)
			d.grow(`
spec: {resources: {requests: {storage: 1500Mi}}}
status: {capacity: {storage: 1Gi}, allocatedResources: {storage: 1500Mi}, allocatedResourceStatuses: {storage: NodeResizePending}}
`)
			d.is("told", "1500Mi")
			if got := d.driver.Expanded("vol-1"); got != 1500<<20 {
				t.Errorf("expanded to %d", got)
			}
		})
	}
}

// A driver that does not expand what is in use is asked again when the next pod comes.
func TestAVolumeThatIsExpandedOnlyWhenItIsNotInUse(t *testing.T) {
	d := running(t)
	d.driver.Refuse("NodeExpandVolume", "vol-1", codes.FailedPrecondition)
	d.grow(pending)
	d.until("told", func() bool { return strings.Contains(d.told(), "code = FailedPrecondition") })
	calls := d.called("NodeExpandVolume vol-1")
	for range 3 {
		d.look(uid(1))
	}
	if n := d.called("NodeExpandVolume vol-1"); n != calls {
		t.Errorf("tried %d times more", n-calls)
	}
	d.driver.Refuse("NodeExpandVolume", "vol-1", codes.OK)
	d.sync()
	d.gone(uid(1))
	d.sync(claimPod(t, 2, "data"))
	d.ready(uid(2))
	d.is("told", "2Gi Other: stays")
}

// A volume that grew while nobody had it is expanded before the pod starts, also in the words of old resizers;
// one that several nodes write is expanded on each.
func TestAVolumeIsExpandedForANewPod(t *testing.T) {
	d := running(t)
	d.sync()
	d.gone(uid(1))
	d.grow(small)
	d.sync(claimPod(t, 2, "data"))
	d.ready(uid(2))
	d.is("told", "2Gi")
	if calls := d.driver.Calls(); slices.Index(calls, "NodeExpandVolume vol-1") < slices.Index(calls, "NodePublishVolume vol-1") {
		t.Errorf("calls %q", calls)
	}

	many := running(t)
	many.grow("spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 2Gi}}}\nstatus: {capacity: {storage: 2Gi}, allocatedResources: {storage: 2Gi}}")
	many.until("expanded", func() bool { return many.driver.Expanded("vol-1") == 2<<30 })
	many.until("noted", func() bool { return strings.Contains(many.events.String(), "FileSystemResizeSuccessful") })
	many.look(uid(1))
	if n := many.called("NodeExpandVolume vol-1"); n != 1 {
		t.Errorf("expanded %d times", n)
	}
}
