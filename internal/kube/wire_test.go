package kube

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"nodelet/internal/model"
)

// anySlice is an EndpointSlice as somebody could write it, good or bad.
func anySlice(t *rapid.T) *discoveryv1.EndpointSlice {
	text := func(of ...string) string { return rapid.SampledFrom(of).Draw(t, "text") }
	maybe := func(of ...string) *string {
		return rapid.Ptr(rapid.SampledFrom(of), true).Draw(t, "maybe")
	}
	yes := func() *bool { return rapid.Ptr(rapid.Bool(), true).Draw(t, "condition") }
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Name: text("a-x", "", "b-y"), Namespace: text("default", "", "other"), ResourceVersion: text("", "7", "123456"), UID: "u",
		CreationTimestamp: metav1.Unix(1, 0), Generation: 3,
		OwnerReferences: []metav1.OwnerReference{{Kind: "Service", Name: "a"}},
		ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "m", FieldsV1: metav1.NewFieldsV1("{}")}},
	}, AddressType: discoveryv1.AddressType(text("IPv4", "IPv6", "FQDN", ""))}
	if rapid.Bool().Draw(t, "labels") {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: text("a", ""), discoveryv1.LabelManagedBy: "c"}
	}
	if rapid.Bool().Draw(t, "annotations") {
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: text("2024-05-06T07:08:09.5Z", "yesterday", ""), "x": "y"}
	}
	for range rapid.IntRange(0, 3).Draw(t, "ports") {
		p := discoveryv1.EndpointPort{Name: maybe("http", ""), AppProtocol: maybe("h2c")}
		p.Protocol = (*corev1.Protocol)(maybe("TCP", "UDP", "SCTP", "", "IGMP"))
		p.Port = rapid.Ptr(rapid.SampledFrom([]int32{0, 1, 80, 65535, 65536, -1}), true).Draw(t, "port")
		s.Ports = append(s.Ports, p)
	}
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		e := discoveryv1.Endpoint{Hostname: maybe("h", ""), NodeName: maybe("n1", ""), Zone: maybe("z", ""), DeprecatedTopology: map[string]string{"k": "v"}}
		for range rapid.IntRange(0, 2).Draw(t, "addresses") {
			e.Addresses = append(e.Addresses, text("10.0.0.1", "", "fd00::1", "127.0.0.1", "::ffff:10.0.0.1", "host.example", "10.0.0.2"))
		}
		e.Conditions = discoveryv1.EndpointConditions{Ready: yes(), Serving: yes(), Terminating: yes()}
		if rapid.Bool().Draw(t, "target") {
			e.TargetRef = &corev1.ObjectReference{Kind: text("Pod", "Node", ""), Namespace: text("default", ""), Name: text("p", "")}
		}
		if rapid.Bool().Draw(t, "hints") {
			e.Hints = &discoveryv1.EndpointHints{}
			for range rapid.IntRange(0, 2).Draw(t, "zones") {
				e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: text("z1", "z2", "")})
				e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: text("n1", "n2")})
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// TestWireSlice: whether an EndpointSlice is read from the bytes or from the object makes no difference.
func TestWireSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySlice(t)
		b, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		key, want, keep := newNames().slice(s)
		got, err := newNames().wireSlice(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.key != key || got.keep != keep || !cmp.Equal(got.value, want, cmp.AllowUnexported(model.Hints{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
			t.Errorf("from the bytes\n%+v, kept: %t\nfrom the object\n%+v, kept: %t", got.value, got.keep, want, keep)
		}
		if n := rapid.IntRange(0, len(b)).Draw(t, "cut"); n < len(b) {
			_, _ = newNames().wireSlice(b[:n]) // must only not panic
		}
	})
}

// FuzzWireSlice: nothing that comes makes it panic, and what is no message is refused.
func FuzzWireSlice(f *testing.F) {
	b, err := sliceNamed("a").Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x12, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := newNames().wireSlice(b)
		if _, ok := lastField(b, sliceMeta); !ok && err == nil {
			t.Errorf("%x is taken for an EndpointSlice", b)
		}
	})
}

// TestWireSliceKnowsWhenItCame: as a slice that was read from an object does.
func TestWireSliceKnowsWhenItCame(t *testing.T) {
	came := time.Unix(5, 6)
	b, err := at("a", "7").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	o, version, err := newNames().wireSliceFrom(&came)(b)
	if err != nil || version != "7" {
		t.Fatalf("version %q, %v", version, err)
	}
	if got := (tableSink[model.Key, *model.Slice]{}).rowOf(o).value.Arrived; !got.Equal(came) {
		t.Errorf("arrived at %s, want %s", got, came)
	}
}
