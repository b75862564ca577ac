package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"nodelet/internal/model"
	"nodelet/proxy"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/traffic"
)

// freePort gives a port that nobody listens on just now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func ask(url string) (code int, weight, body string, err error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: traffic.Patience}
	r, err := c.Get(url)
	if err != nil {
		return 0, "", "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, r.Header.Get("X-Load-Balancing-Endpoint-Weight"), strings.TrimSpace(string(b)), err
}

func TestHealthCheckNodePort(t *testing.T) {
	port := freePort(t)
	service := func(options string) string {
		return fmt.Sprintf("service a/lb LoadBalancer 10.96.0.2 p:80/TCP[30001] lb=1.2.3.4 check=%d %s\n", port, options)
	}
	w := lbtest.MustParse(world + "\n" + service("external=local") + "slice a/lb of a/lb p:80/TCP 10.244.0.1=ready@n1 10.244.0.2=ready@n1 10.244.0.3=serving@n1 10.244.0.4=ready@n2\n")
	p, stop := start(t, w, &recorder{}, nil)
	url := fmt.Sprintf("http://127.0.0.1:%d/", port)
	settled := func() {
		t.Helper()
		await(t, w.Store, w.Snapshot().Revision)
	}
	settled()
	code, weight, body, err := ask(url)
	if want := `{"service":{"namespace":"a","name":"lb"},"localEndpoints":2,"serviceProxyHealthy":true}`; err != nil || code != 200 || weight != "2" || body != want {
		t.Errorf("with two ready endpoints here: %d %q %s %v", code, weight, body, err)
	}
	w.Apply("slice a/lb of a/lb p:80/TCP 10.244.0.3=serving@n1 10.244.0.4=ready@n2")
	settled()
	if code, weight, body, err := ask(url); err != nil || code != 503 || weight != "0" || !strings.Contains(body, `"localEndpoints":0`) {
		t.Errorf("with none: %d %q %s %v", code, weight, body, err)
	}
	w.Apply(service("")) // policy Cluster: nobody asks
	settled()
	if code, _, _, err := ask(url); err == nil {
		t.Errorf("policy Cluster still answers: %d", code)
	}
	w.Apply(service("external=local"))
	settled()
	if code, _, _, err := ask(url); err != nil || code != 503 {
		t.Errorf("back to Local: %d %v", code, err)
	}
	stop()
	if code, _, _, err := ask(url); err == nil {
		t.Errorf("after the end: %d", code)
	}
	_ = p
}

func TestHealthCheckNodePortInUse(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := lbtest.MustParse(world + fmt.Sprintf("\nservice a/lb LoadBalancer 10.96.0.2 p:80/TCP external=local lb=1.2.3.4 check=%d", l.Addr().(*net.TCPAddr).Port))
	var mu sync.Mutex
	var told []string
	startWith(t, w, proxy.Deps{Backend: &recorder{}, Event: func(about model.Key, reason, message string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, about.String()+" "+reason+": "+message)
	}}, nil)
	await(t, w.Store, w.Snapshot().Revision)
	mu.Lock()
	defer mu.Unlock()
	if len(told) == 0 || !strings.HasPrefix(told[0], "a/lb FailedToStartServiceHealthcheck: listen on spec.healthCheckNodePort") {
		t.Errorf("events: %q", told)
	}
}

func TestHealthChecksOnNodePortAddressesOnly(t *testing.T) {
	port := freePort(t)
	w := lbtest.MustParse(world + fmt.Sprintf("\nservice a/lb LoadBalancer 10.96.0.2 p:80/TCP external=local lb=1.2.3.4 check=%d", port))
	start(t, w, &recorder{}, func(c *proxy.Config) { c.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")} })
	await(t, w.Store, w.Snapshot().Revision)
	if code, _, _, err := ask(fmt.Sprintf("http://127.0.0.1:%d/", port)); err == nil {
		t.Errorf("answers on 127.0.0.1: %d", code)
	}
}
