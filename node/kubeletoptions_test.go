package node

import (
	"net/netip"
	"strings"
	"testing"
	"time"

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
		want  kube.Rate
	}{{0, 0, kube.Rate{PerSecond: 50, Burst: 100}}, {5, 10, kube.Rate{PerSecond: 5, Burst: 10}}, {NoEventBound, 10, kube.Rate{}}} {
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

func TestLimitsAreChecked(t *testing.T) {
	low, high, none := -1001, 1001, -2
	for what, k := range map[string]KubeletOptions{
		"kubeAPIQPS": {KubeAPIQPS: -1}, "kubeAPIBurst": {KubeAPIBurst: -1}, "oomScoreAdj": {OOMScoreAdj: &low}, "oomScoreAdj is 1001": {OOMScoreAdj: &high},
		"syncFrequency": {SyncFrequency: -1}, "nodeStatusMaxImages": {NodeStatusMaxImages: &none},
		"--cloud-provider":  {CloudProvider: "aws"},
		"cpuCFSQuotaPeriod": {CPUQuotaPeriod: time.Microsecond}, "cpuCFSQuotaPeriod is 2s": {CPUQuotaPeriod: 2 * time.Second},
	} {
		if err := k.check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if k := (KubeletOptions{KubeAPIQPS: 20}); k.check() != nil || k.apiRate() != (kube.Rate{PerSecond: 20, Burst: 100}) {
		t.Errorf("%v %v", k.check(), k.apiRate())
	}
}
