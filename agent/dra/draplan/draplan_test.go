package draplan

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/model"
)

func claim(name, uid string, drivers ...string) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
	c.Status.Allocation = &resourcev1.AllocationResult{}
	for _, d := range drivers {
		c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, resourcev1.DeviceRequestAllocationResult{Driver: d})
	}
	c.Status.ReservedFor = []resourcev1.ResourceClaimConsumerReference{{UID: "p"}}
	return c
}

func records(all ...Record) map[model.Key]Record {
	out := map[model.Key]Record{}
	for _, r := range all {
		out[r.Key] = r
	}
	return out
}

func TestPrepare(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}}
	x := Record{Key: model.Key{Namespace: "ns", Name: "x"}, UID: "ux", Pods: []model.UID{"a"}, Drivers: []string{"d"}, Boot: "now"}
	before := x
	before.Boot = "before"
	for name, c := range map[string]struct {
		records map[model.Key]Record
		want    string
	}{
		"new": {nil, `
keep ns/x (ux) pods=p drivers=d
keep ns/y (uy) pods=p drivers=d,e
need d,e
call d for ns/x,ns/y
call e for ns/y`},
		"one is prepared": {records(x), `
keep ns/x (ux) pods=a,p drivers=d prepared in now
keep ns/y (uy) pods=p drivers=d,e
need d,e
call d for ns/y
call e for ns/y`},
		"of another boot": {records(before), `
keep ns/x (ux) pods=a,p drivers=d prepared in before
keep ns/y (uy) pods=p drivers=d,e
need d,e
call d for ns/x,ns/y
call e for ns/y`},
	} {
		plan, err := Prepare(Facts{
			Pod: pod, Needs: []Need{{Claim: "x"}, {Claim: "y"}}, Records: c.records, Boot: "now",
			Claims: map[string]*resourcev1.ResourceClaim{"x": claim("x", "ux", "d"), "y": claim("y", "uy", "e", "d", "d")},
		})
		if got := strings.TrimSpace(plan.String()); err != nil || got != strings.TrimSpace(c.want) {
			t.Errorf("%s: %v\n%s\nwant%s", name, err, got, c.want)
		}
	}
}

func TestRelease(t *testing.T) {
	r := func(name string, pods ...model.UID) Record {
		return Record{Key: model.Key{Namespace: "ns", Name: name}, UID: model.UID("u" + name), Pods: pods, Drivers: []string{"d"}, Boot: "now", Devices: []model.PreparedDevice{{Driver: "d"}}}
	}
	all := []Record{r("alone", "p"), r("shared", "a", "p"), r("other", "a")}
	plan := Release("p", all)
	want := `
keep ns/alone (ualone) pods=p drivers=d
keep ns/shared (ushared) pods=a drivers=d prepared in now
call d for ns/alone
drop ns/alone`
	if got := strings.TrimSpace(plan.String()); got != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant%s", got, want)
	}
	if got := fmt.Sprint(all[1].Pods); got != "[a p]" {
		t.Errorf("what was handed in is changed: %s", got)
	}
}

func TestLongMessages(t *testing.T) {
	h := healthOf(model.PreparedDevice{Driver: "d", Pool: "p", Device: "x", Message: strings.Repeat("ä", 1000)})
	if len(*h.Message) > maxMessage || !strings.HasSuffix(*h.Message, "ä...") || h.ResourceID != "d/p/x" {
		t.Errorf("%s: %d bytes, %q", h.ResourceID, len(*h.Message), (*h.Message)[len(*h.Message)-8:])
	}
}
