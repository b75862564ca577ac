package explain_test

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/explain"
	"nodelet/internal/golden"
	"nodelet/internal/model"
	"nodelet/internal/nft/sim"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestGolden answers questions about worlds in which the kernel does what it
// should: what the API alone decides, and how it is told.
func TestGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(t *golden.Case) {
		w := lbtest.New()
		w.Pods.Set("c", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "c", UID: "c"},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.1.9"}}}})
		if err := w.Apply(t.Section("world")); err != nil {
			t.Fatal(err)
		}
		t.Want("answers", answers(w, t.Section("questions")))
	})
}

func answers(w *lbtest.World, questions string) string {
	var b strings.Builder
	for line := range strings.Lines(questions) {
		b.WriteString("? " + strings.TrimSpace(line) + "\n")
		a, err := answer(w, line)
		if err != nil {
			b.WriteString("error: " + err.Error() + "\n\n")
			continue
		}
		b.WriteString(a.String() + "\n")
	}
	return b.String()
}

func answer(w *lbtest.World, question string) (explain.Answer, error) {
	cfg := &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	f := &explain.Facts{Complete: true, Proxied: true, Network: true, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}}
	f.Names = explain.Names{Snapshot: w.Snapshot(), State: lb.Compile(cfg, w.Snapshot()), NodeName: "n1", ClusterDomain: "cluster.local",
		NodeAddrs: []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("127.0.0.1")}}
	q, err := explain.Parse(question)
	if err != nil {
		return explain.Answer{}, err
	}
	if f.Question, err = explain.Resolve(f.Names, q); err != nil {
		return explain.Answer{}, err
	}
	if f.Question.Problem == nil {
		f.Verdict, f.Trace = eval.Trace(f.State, f.Packet)
	}
	var of model.Key
	switch t := f.Verdict.Target; {
	case t.Port != nil:
		of = t.Service
	case f.Service != nil:
		of = *f.Service
	}
	for _, v := range f.State.Describe() {
		if v.Service == of.String() {
			f.Views = append(f.Views, v)
		}
	}
	for i, e := range f.Verdict.Endpoints {
		f.Ways = append(f.Ways, sim.Outcome{Dst: e, Translated: true, Masqueraded: f.Verdict.Masquerade[i], Weight: f.Verdict.Chance()})
		f.Paths = append(f.Paths, explain.Path{To: e, Here: true, Listening: explain.Yes})
	}
	return explain.Explain(f), nil
}

// TestUnread: what could not be read is never taken for healthy.
func TestUnread(t *testing.T) {
	w := lbtest.MustParse("node n1 192.168.0.1")
	f := &explain.Facts{Complete: true, Unread: []string{"the rules of the kernel: no"}}
	f.Names = explain.Names{Snapshot: w.Snapshot(), NodeName: "n1"}
	f.Packet.Dst = netip.MustParseAddrPort("192.0.2.1:80")
	if a := explain.Explain(f); a.Verdict.State != explain.StateUnknown || !strings.Contains(a.Verdict.Cause, "no") {
		t.Error(a)
	}
	f.Unread, f.Complete, f.Ways = nil, false, []sim.Outcome{{}}
	if a := explain.Explain(f); a.Verdict.State != explain.StateUnknown {
		t.Error(a)
	}
}
