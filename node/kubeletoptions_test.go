package node

import (
	"net/netip"
	"testing"

	"nodelet/internal/kube"
)

func TestAPIAddress(t *testing.T) {
	for text, want := range map[string]string{"": ":10250", "0.0.0.0": ":10250", "::": ":10250", "192.0.2.7": "192.0.2.7:10250", "2001:db8::7": "[2001:db8::7]:10250"} {
		k := KubeletOptions{}
		if text != "" {
			k.Address = netip.MustParseAddr(text)
		}
		if got := k.apiAddress(10250); got != want {
			t.Errorf("address %q: listens on %s, want %s", text, got, want)
		}
	}
}

func TestEventRate(t *testing.T) {
	for _, test := range []struct {
		qps   int32
		burst int
		want  kube.EventRate
	}{{0, 0, kube.EventRate{PerSecond: 50, Burst: 100}}, {5, 10, kube.EventRate{PerSecond: 5, Burst: 10}}, {NoEventBound, 10, kube.EventRate{}}} {
		k := KubeletOptions{EventRecordQPS: test.qps, EventBurst: test.burst}
		if got := k.eventRate(); got != test.want {
			t.Errorf("%d a second, %d at once: %+v, want %+v", test.qps, test.burst, got, test.want)
		}
	}
	if err := (&KubeletOptions{RuntimeRequestTimeout: -1}).check(); err == nil {
		t.Error("a negative time for calls to the runtime is accepted")
	}
	if err := (&KubeletOptions{EventRecordQPS: -2}).check(); err == nil {
		t.Error("a negative rate is accepted")
	}
}
