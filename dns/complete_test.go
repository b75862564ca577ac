package dns

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
)

func podAt(name string, ips ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-1"}}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	return p
}

func (s *server) setPod(p *corev1.Pod) {
	s.writers.Pods.Set(model.UID(p.UID), p)
	s.settle()
}

// TestSearchPathCompletion: one query gets what the whole search path leads to,
// for pods that asked for it and for nobody else.
func TestSearchPathCompletion(t *testing.T) {
	up := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if strings.EqualFold(m.Question[0].Name, "api.example.com.") {
			address("203.0.113.4", 60)(w, m)
			return
		}
		code(dns.RcodeNameError, true)(w, m)
	})
	s := startForward(t, up)
	s.sync(clusterIP("shop/cart", "10.96.0.5"), clusterIP("infra/db", "10.96.0.6"))
	asks := func(name string) *dns.Msg { t.Helper(); return s.ask(t, "udp", name, dns.TypeA) }
	first := ".shop.svc.cluster.local"

	expect(t, asks("api.example.com"+first), "NXDOMAIN") // nobody asked for it
	pod := podAt("web", "127.0.0.1")
	s.setPod(pod)
	expect(t, asks("api.example.com"+first), "NXDOMAIN")

	s.writers.Namespaces.Replace(map[model.Key]*model.Namespace{{Name: "shop"}: {Name: "shop", Annotations: map[string]string{completeAnnotation: completeValue}}})
	s.settle()
	for range 2 { // fresh, then out of the cache
		m := asks("api.example.com" + first)
		expect(t, m, "NOERROR 203.0.113.4")
		if len(m.Answer) != 1 || m.Answer[0].Header().Name != "api.example.com"+first+"." {
			t.Errorf("the answer has another name than was asked:\n%s", m)
		}
	}
	if n := up.asked.Load(); n != 1 {
		t.Errorf("the resolver was asked %d times, want once", n)
	}
	expect(t, asks("cart"+first), "NOERROR 10.96.0.5")
	expect(t, asks("db.infra"+first), "NOERROR 10.96.0.6") // by svc.<domain>
	expect(t, asks("nope"+first), "NXDOMAIN")
	expect(t, asks("api.example.com.svc.cluster.local"), "NXDOMAIN")       // not the first of the path
	expect(t, asks("api.example.com.other.svc.cluster.local"), "NXDOMAIN") // not the pod's namespace
	expect(t, s.ask(t, "tcp", "api.example.com"+first, dns.TypeA), "NOERROR 203.0.113.4")

	off := podAt("web", "127.0.0.1")
	off.Annotations = map[string]string{completeAnnotation: "off"}
	s.setPod(off)
	expect(t, asks("api.example.com"+first), "NXDOMAIN")
	host := podAt("web", "127.0.0.1")
	host.Spec.HostNetwork = true
	s.setPod(host)
	expect(t, asks("api.example.com"+first), "NXDOMAIN")
}

func TestExplain(t *testing.T) {
	up := newScript(t, address("203.0.113.4", 60))
	s := startForward(t, up)
	svc := clusterIP("shop/cart", "10.96.0.5")
	svc.ResourceVersion = "81234"
	s.sync(svc)
	search := []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}
	explain := func(name string) *Why {
		t.Helper()
		w, err := s.Explain(Question{Name: name, Type: dns.TypeA, Search: search, Ndots: 5, Client: netip.MustParseAddr("10.244.0.5")})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := explain("cart")
	if len(w.Steps) != 1 || w.Steps[0].Objects[0] != "Service shop/cart @81234" || !strings.HasPrefix(w.Steps[0].From, "cluster zone at revision ") {
		t.Errorf("%+v", w)
	}
	w = explain("api.example.com")
	if len(w.Steps) != 4 || w.Steps[0].Rcode != "NXDOMAIN" || w.Steps[3].Name != "api.example.com." || w.Steps[3].From != "resolver "+up.addr.String() {
		t.Errorf("%+v", w)
	}
	if w = explain("api.example.com."); len(w.Steps) != 1 || !strings.HasPrefix(w.Steps[0].From, "cache, asked of "+up.addr.String()) {
		t.Errorf("%+v", w)
	}
	if n := up.asked.Load(); n != 1 {
		t.Errorf("explaining asked the resolver %d times", n)
	}
}

// TestCompletionsAreBounded: what is beyond the bound is answered as without completion.
func TestCompletionsAreBounded(t *testing.T) {
	up := newScript(t, silent)
	s := startPatient(t, time.Second, up)
	s.sync()
	pod := podAt("web", "127.0.0.1")
	pod.Annotations = map[string]string{completeAnnotation: completeValue}
	s.setPod(pod)
	for range maxCompletions {
		s.completions <- struct{}{}
	}
	expect(t, s.ask(t, "udp", "a.example.com.shop.svc.cluster.local", dns.TypeA), "NXDOMAIN")
	for range maxCompletions {
		<-s.completions
	}
}
