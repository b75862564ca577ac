package server

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"nodelet/agent/server/nodelog"
	"nodelet/agent/stats"
	"nodelet/internal/cgroup"
	"nodelet/internal/model"
)

func TestEndpoints(t *testing.T) {
	w := newWorld(t, nil)
	for _, test := range []struct {
		path string
		code int
		has  string
	}{
		{"/healthz", 200, "ok"},
		{"/healthz/ping", 200, "ok"},
		{"/healthz/syncloop", 200, "ok"},
		{"/healthz/nope", 404, ""},
		{"/healthz?verbose", 200, "[+]syncloop ok"},
		{"/pods", 200, `"name":"web-0"`},
		{"/pods/", 200, `"kind":"PodList"`},
		{"/runningpods/", 200, `"name":"main"`},
		{"/configz", 200, `"kubeletconfig":{"kind":"x"}`},
		{"/statusz", 200, "Binary version: v1.36.0\n"},
		{"/statusz", 200, "Paths: /attach /configz /containerLogs /debug /exec /flagz /healthz /logs /metrics /pods /portForward /run /runningpods /stats /statusz"},
		{"/flagz", 200, "\na-flag=its value"},
		{"/metrics", 200, `kubelet_node_name{node="n1"} 1`},
		{"/metrics/probes", 200, `prober_probe_total`},
		{"/metrics/resource", 200, `container_memory_working_set_bytes{container="main",namespace="ns",pod="web-0"} 4096`},
		{"/metrics/resource", 200, `pod_swap_usage_bytes{namespace="ns",pod="web-0"} 7`},
		{"/metrics/resource", 200, `node_swap_usage_bytes 10`},
		{"/metrics/cadvisor", 200, `machine_cpu_cores`},
		{"/metrics/cadvisor", 200, `container_network_receive_bytes_total{container="",id="/kubepods/podx/s1",image="",interface="eth0",name="s1",namespace="ns",pod="web-0"} 9`},
		{"/metrics/cadvisor", 200, `container_fs_usage_bytes{container="main",device="",id="/kubepods/podx/c1",image="",name="c1",namespace="ns",pod="web-0"} 40`},
		{"/metrics/cadvisor", 200, `container_pressure_io_waiting_seconds_total{container="main",id="/kubepods/podx/c1",image="",name="c1",namespace="ns",pod="web-0"} 1`},
		{"/metrics/cadvisor", 200, `container_oom_events_total{container="main",id="/kubepods/podx/c1",image="",name="c1",namespace="ns",pod="web-0"} 2`},
		{"/metrics/cadvisor", 200, `container_cpu_usage_seconds_total{container="",cpu="total",id="/",image="",name="",namespace="",pod=""} 5`},
		{"/stats/summary", 200, `"nodeName":"n1"`},
		{"/logs/", 405, "disabled"},
		{"/debug/pprof/", 405, "disabled"},
		{"/checkpoint/ns/web-0/main", 404, ""},
		{"/stats/container", 404, ""},
		{"/", 404, ""},
	} {
		code, body := w.get(test.path)
		if code != test.code || !strings.Contains(body, test.has) {
			t.Errorf("%s: %d %.300s, want %d with %q", test.path, code, body, test.code, test.has)
		}
	}
	var list corev1.PodList
	_, body := w.get("/runningpods/")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Items) != 1 || len(list.Items[0].Spec.Containers) != 2 {
		t.Errorf("running pods %s: %v", body, err)
	}
	var sum statsapi.Summary
	_, body = w.get("/stats/summary")
	if err := json.Unmarshal([]byte(body), &sum); err != nil || len(sum.Pods) != 1 || len(sum.Pods[0].Containers) != 2 {
		t.Fatalf("summary %s: %v", body, err)
	}
	pod, node := sum.Pods[0], sum.Node
	if c := pod.Containers[0]; *c.CPU.UsageCoreNanoSeconds != 5e9 || *c.Memory.WorkingSetBytes != 4096 || *c.Rootfs.UsedBytes != 40 || *c.Logs.InodesUsed != 4 || c.IO.PSI.Some.Total != 1e9 {
		t.Errorf("container: %s", body)
	}
	if *pod.Network.RxBytes != 9 || *pod.EphemeralStorage.UsedBytes != 40 || *pod.ProcessStats.ProcessCount != 3 || *pod.Swap.SwapUsageBytes != 7 ||
		len(pod.VolumeStats) != 2 || *pod.VolumeStats[0].PVCRef != (statsapi.PVCReference{Name: "claim", Namespace: "ns"}) || pod.VolumeStats[1].PVCRef != nil {
		t.Errorf("pod: %s", body)
	}
	if *node.Fs.AvailableBytes != 60 || *node.Runtime.ImageFs.CapacityBytes != 100 || *node.Rlimit.MaxPID != 1000 || *node.Swap.SwapUsageBytes != 10 ||
		len(node.SystemContainers) != 2 || *node.Memory.AvailableBytes != 1<<20-4096 || node.Network.Name != "" || len(node.Network.Interfaces) != 1 {
		t.Errorf("node: %s", body)
	}
	m := w.server.deps.Stats.(*measured)
	if m.depth != stats.Full {
		t.Error("a summary without file systems")
	}
	if w.get("/stats/summary?only_cpu_and_memory=true"); m.depth != stats.Cheap {
		t.Error("only_cpu_and_memory asks for everything")
	}
}

func TestOptionalEndpoints(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Profiling = true })
	w.write("varlog/messages", []byte("hello"))
	w.server.cfg.SystemLogs = w.path("varlog")
	if code, body := w.get("/logs/messages"); code != 200 || body != "hello" {
		t.Errorf("/logs/messages: %d %s", code, body)
	}
	if code, body := w.get("/logs/"); code != 200 || !strings.Contains(body, "messages") {
		t.Errorf("/logs/: %d %s", code, body)
	}
	if code, body := w.get("/logs/?query=messages"); code != 200 || body == "hello" {
		t.Errorf("a query that is not answered: %d %s", code, body)
	}
	w.server.cfg.LogQuery = true
	w.server.queries = nodelog.New(nodelog.Config{Dir: w.path("varlog"), Journalctl: "/does/not/exist"})
	for path, want := range map[string]string{
		"/logs/?query=messages":             "200 hello",
		"/logs/?query=/messages":            "200 hello",
		"/logs/?query=/../messages":         "200 hello",
		"/logs/?query=":                     "400 query: must name",
		"/logs/?query=a&boot=x":             "400 boot",
		"/logs/?query=a%3Bid":               "406 query",
		"/logs/messages?query=messages":     "406 path not allowed",
		"/logs/messages":                    "200 hello",
		"/logs/?query=/messages&pattern=xx": "406 query: a file is given",
	} {
		if code, body := w.get(path); !strings.HasPrefix(fmt.Sprintf("%d %s", code, body), want) {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
	if code, body := w.get("/debug/pprof/cmdline"); code != 200 || !strings.Contains(body, "server.test") {
		t.Errorf("cmdline: %d %s", code, body)
	}
	if code, _ := w.get("/debug/pprof/goroutine"); code != 200 {
		t.Errorf("goroutine: %d", code)
	}
}

func TestHealthFails(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.HealthAddress = freeAddress(t) })
	w.server.deps.SyncLoop = func() error { return errors.New("stuck") }
	if code, body := w.get("/healthz"); code != 500 || !strings.Contains(body, "[-]syncloop failed") || strings.Contains(body, "stuck") {
		t.Errorf("%d %s", code, body)
	}
	resp, err := http.Get("http://" + w.cfg.HealthAddress + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != 500 {
		t.Errorf("health port: %d", resp.StatusCode)
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAuthentication(t *testing.T) {
	w := newWorld(t, nil)
	w.reviews.allowed["robot *"], w.reviews.allowed["system:authenticated *"] = true, true
	with := func(cert, key []byte) *tls.Config {
		c := w.tls("")
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
		return c
	}
	other := newAuthority(t, "ca") // of the same name
	token := func(all ...string) http.Header { return http.Header{"Authorization": all} }
	tests := []struct {
		name   string
		tls    *tls.Config
		header http.Header
		code   int
	}{
		{"certificate", w.tls("admin"), nil, 200},
		{"nobody", w.tls(""), nil, 401},
		{"token", w.tls(""), token("Bearer good"), 200},
		{"token, other case", w.tls(""), token("bEARER  good "), 200},
		{"bad token", w.tls(""), token("Bearer bad"), 401},
		{"empty token", w.tls(""), token("Bearer "), 401},
		{"two headers", w.tls(""), token("Bearer good", "Bearer good"), 401},
		{"huge token", w.tls(""), token("Bearer " + strings.Repeat("x", maxToken)), 401},
		{"basic", w.tls(""), token("Basic Z29vZDpnb29k"), 401},
		{"anonymous by name", w.tls(""), http.Header{"X-Remote-User": {"admin"}, "Impersonate-User": {"admin"}}, 401},
		{"certificate of another CA", with(other.sign(t, pkix.Name{CommonName: "admin"}, x509.ExtKeyUsageClientAuth, time.Hour)), nil, 401},
		{"certificate of a server", with(w.ca.sign(t, pkix.Name{CommonName: "admin"}, x509.ExtKeyUsageServerAuth, time.Hour)), nil, 401},
		{"certificate that is over", with(w.ca.sign(t, pkix.Name{CommonName: "admin"}, x509.ExtKeyUsageClientAuth, -time.Hour)), nil, 401},
		{"certificate without a name", with(w.ca.sign(t, pkix.Name{Organization: []string{"system:masters"}}, x509.ExtKeyUsageClientAuth, time.Hour)), nil, 401},
		{"bad certificate and good token", with(other.sign(t, pkix.Name{CommonName: "admin"}, x509.ExtKeyUsageClientAuth, time.Hour)), token("Bearer good"), 200},
	}
	for _, test := range tests {
		if code, body := w.do(w.client(test.tls), "GET", "/metrics", test.header); code != test.code {
			t.Errorf("%s: %d %s, want %d", test.name, code, body, test.code)
		}
	}
}

func TestAuthorization(t *testing.T) {
	w := newWorld(t, nil)
	tests := []struct {
		method, path, want string // what must be asked, the first alternative first
	}{
		{"GET", "/pods", "get pods,get proxy"},
		{"GET", "/runningpods/", "get pods,get proxy"},
		{"GET", "/healthz", "get healthz,get proxy"},
		{"GET", "/healthz/ping", "get healthz,get proxy"},
		{"GET", "/configz", "get configz,get proxy"},
		{"GET", "/stats/summary", "get stats"},
		{"GET", "/stats/anything", "get stats"},
		{"GET", "/metrics", "get metrics"},
		{"GET", "/metrics/cadvisor", "get metrics"},
		{"GET", "/metrics/nope", "get metrics"},
		{"GET", "/logs/x", "get log"},
		{"GET", "/logs/?query=kubelet", "get log"},
		{"GET", "/statusz", "get statusz,get proxy"},
		{"GET", "/flagz", "get configz"},
		{"GET", "/debug/pprof/heap", "get proxy"},
		{"PUT", "/debug/flags/v", "update proxy"},
		{"GET", "/containerLogs/ns/web-0/main", "get proxy"},
		{"GET", "/nope", "get proxy"},
		{"POST", "/pods", "create pods,create proxy"},
		{"PUT", "/pods", "update pods,update proxy"},
		{"PATCH", "/metrics", "patch metrics"},
		{"DELETE", "/metrics", "delete metrics"},
		// Whatever the method, a way into a container is "create".
		{"GET", "/exec/ns/web-0/main?command=cat", "create proxy"},
		{"POST", "/exec/ns/web-0/main?command=cat", "create proxy"},
		{"PUT", "/exec/ns/web-0/main?command=cat", "create proxy"},
		{"GET", "/exec/ns/web-0/" + podUIDText + "/main", "create proxy"},
		{"GET", "/exec/ns", "create proxy"},
		{"GET", "/exec", "create proxy"},
		{"GET", "/attach/ns/web-0/main", "create proxy"},
		{"GET", "/portForward/ns/web-0", "create proxy"},
		{"GET", "/run/ns/web-0/main", "create proxy"},
		{"POST", "/run/ns/web-0/main", "create proxy"},
	}
	for i, test := range tests {
		c := w.client(w.tls(fmt.Sprintf("user%d", i))) // nobody is remembered
		w.reviews.take()
		code, _ := w.do(c, test.method, test.path, nil)
		var asked []string
		for _, a := range w.reviews.take() {
			a = strings.TrimPrefix(a, fmt.Sprintf("user%d ", i))
			asked = append(asked, strings.Replace(a, "nodes/n1/", "", 1))
		}
		if got := strings.Join(asked, ","); code != 403 || got != test.want {
			t.Errorf("%s %s: %d after asking %q, want 403 after %q", test.method, test.path, code, got, test.want)
		}
	}
}

// Ways to have a path read differently by whoever allows and whoever serves.
func TestPathTricks(t *testing.T) {
	w := newWorld(t, nil)
	// May read metrics and pods, nothing else.
	w.reviews.allowed["reader get metrics"], w.reviews.allowed["reader get pods"] = true, true
	w.reviews.allowed["reader get healthz"] = true
	c := w.tls("reader")
	for _, target := range []string{
		"/metrics/../exec/ns/web-0/main?command=cat&output=1",
		"/metrics/..%2fexec/ns/web-0/main?command=cat&output=1",
		"/metrics/%2e%2e/exec/ns/web-0/main?command=cat&output=1",
		"/metrics%2f..%2fexec/ns/web-0/main?command=cat&output=1",
		"//exec/ns/web-0/main?command=cat&output=1",
		"/metrics//../exec/ns/web-0/main",
		"/./exec/ns/web-0/main?command=cat&output=1",
		"/exec%2fns/web-0/main?command=cat&output=1",
		"/%65xec/ns/web-0/main?command=cat&output=1",
		"/exec;/metrics",
		"/metrics;/../exec/ns/web-0/main",
		"/healthz/../pods", "/healthz/%2e%2e/containerLogs/ns/web-0/main",
		"/exec/ns/web-0/main/?command=cat&output=1",
		"/exec/ns/web-0/main%00/x?command=cat",
		"/exec/ns/web-0/main%2500?command=cat",
		"/exec/../metrics", "\\exec\\ns", "/metrics\\..\\exec",
		"https://n1/exec/ns/web-0/main?command=cat&output=1", "http://metrics/exec/ns/web-0/main",
		"/containerLogs/ns/../../etc/passwd/main", "/containerLogs/ns/web-0/..%2f..%2fetc",
		"*", "/EXEC/ns/web-0/main", "/Metrics",
	} {
		for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "get", "FOO"} {
			code := w.raw(c, method, target, "X-HTTP-Method-Override: GET\r\nX-Original-URL: /metrics\r\nX-Forwarded-Uri: /metrics\r\n")
			if code < 400 {
				t.Errorf("%s %s: %d", method, target, code)
			}
		}
	}
	w.runtime.mu.Lock()
	defer w.runtime.mu.Unlock()
	if len(w.runtime.requests) > 0 {
		t.Errorf("the runtime was asked: %v", w.runtime.requests)
	}
	for _, a := range w.reviews.take() {
		if !strings.HasPrefix(a, "reader ") {
			t.Errorf("asked as somebody else: %s", a)
		}
	}
}

// raw sends a request as it is written and gives the status.
func (w *world) raw(c *tls.Config, method, target, headers string) int {
	w.t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), c)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n%s\r\n", method, target, headers)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 999 // cut off
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// Whatever parse allows, it names a verb, and never "get" for a way into a container.
func FuzzParse(f *testing.F) {
	for _, p := range []string{"/exec/ns/p/c", "/metrics/../exec/a/b/c", "/run/a/b/u/c", "/logs/../x", "/containerLogs/a/b/c", "/%2e%2e/exec", "//"} {
		f.Add("GET", p)
		f.Add("POST", p)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		raw := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, target)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		req, status := parse(r)
		if status != 200 {
			return
		}
		if req.verb == "" || len(req.subresources) == 0 || req.kind == kindUnknown {
			t.Fatalf("%q is allowed without a right: %+v", raw, req)
		}
		lower := strings.ToLower(r.URL.Path)
		for _, way := range []string{"/exec", "/attach", "/portforward", "/run/"} {
			if strings.HasPrefix(lower, way) && (req.verb != "create" || !req.kind.intoContainer()) {
				t.Fatalf("%q needs %s", raw, req)
			}
		}
		if req.kind.intoContainer() && req.verb != "create" {
			t.Fatalf("%q needs only %s", raw, req.verb)
		}
		for _, part := range []string{req.namespace, req.pod, req.uid, req.container} {
			if strings.ContainsAny(part, "/\\%\x00") || part == ".." {
				t.Fatalf("%q names %q", raw, part)
			}
		}
	})
}

func TestRemembers(t *testing.T) {
	w := newWorld(t, nil)
	c := w.client(w.tls(""))
	good, bad := http.Header{"Authorization": {"Bearer good"}}, http.Header{"Authorization": {"Bearer bad"}}
	for range 3 {
		w.do(c, "GET", "/metrics", good)
		w.do(c, "GET", "/pods", good)
		w.do(c, "GET", "/metrics", bad)
	}
	want := []string{"token", "robot get nodes/n1/metrics", "robot get nodes/n1/pods", "robot get nodes/n1/proxy", "token"}
	if got := w.reviews.take(); !slices.Equal(got, want) {
		t.Errorf("asked %v, want %v", got, want)
	}
	// What is remembered helps while the API server is away; an error is not remembered.
	w.reviews.mu.Lock()
	w.reviews.err = errors.New("connection refused")
	w.reviews.mu.Unlock()
	if code, _ := w.do(c, "GET", "/metrics", good); code != 200 {
		t.Errorf("remembered: %d", code)
	}
	if code, _ := w.do(c, "GET", "/stats/summary", good); code != 500 {
		t.Errorf("not remembered: %d", code)
	}
	w.reviews.mu.Lock()
	w.reviews.err = nil
	w.reviews.allowed["robot get stats"] = true
	w.reviews.mu.Unlock()
	if code, _ := w.do(c, "GET", "/stats/summary", good); code != 200 {
		t.Errorf("after the API server is back: %d", code)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int, int]()
	now := time.Now()
	for i := range 3 * maxCached {
		c.put(i, i, now.Add(time.Minute))
	}
	if len(c.known) > maxCached {
		t.Errorf("%d answers are remembered", len(c.known))
	}
	if v, ok := c.get(3*maxCached-1, now); !ok || v != 3*maxCached-1 {
		t.Error("the newest answer is forgotten")
	}
	if _, ok := c.get(3*maxCached-1, now.Add(time.Minute)); ok {
		t.Error("an answer is good for longer than it should be")
	}
}

// New certificates are used without a restart; files that cannot be read leave the old ones in place.
func TestCertificatesChange(t *testing.T) {
	w := newWorld(t, nil)
	serial := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	recheckNow := func() {
		w.server.certs.mu.Lock()
		w.server.certs.checked = time.Time{}
		w.server.certs.mu.Unlock()
	}
	first := serial()
	cert, key := w.ca.sign(t, pkix.Name{CommonName: "node"}, x509.ExtKeyUsageServerAuth, time.Hour)
	w.write("tls.crt", cert) // and not the key yet: they do not fit together
	recheckNow()
	if got := serial(); got != first {
		t.Error("a half-written pair is served")
	}
	w.write("tls.key", key)
	recheckNow()
	if got := serial(); got == first {
		t.Error("the old certificate is still served")
	}
	// A client CA that is replaced.
	other := newAuthority(t, "other")
	w.write("ca.crt", other.pem)
	recheckNow()
	if code, _ := w.get("/pods"); code != 401 {
		t.Errorf("a client of the old CA: %d", code)
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, nil)
	for name, spoil := range map[string]func(*Config){
		"no certificate":  func(c *Config) { c.CertFile = w.path("nope") },
		"no client CA":    func(c *Config) { c.ClientCAFile = w.path("nope") },
		"empty client CA": func(c *Config) { w.write("empty", nil); c.ClientCAFile = w.path("empty") },
		"no node":         func(c *Config) { c.NodeName = "" },
	} {
		c := w.cfg
		spoil(&c)
		if _, err := New(c, w.server.deps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A port that is in use is an error at once.
	s, err := New(w.cfg, w.server.deps)
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Address = strings.TrimPrefix(w.url, "https://")
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("port in use: %v", err)
	}
}

func TestOldTLS(t *testing.T) {
	w := newWorld(t, nil)
	c := w.tls("admin")
	c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), c); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t, nil)
	admin := w.tls("admin")
	if code := w.raw(admin, "GET", "/pods?x="+strings.Repeat("y", maxURL), ""); code != http.StatusRequestURITooLong {
		t.Errorf("long URL: %d", code)
	}
	if code := w.raw(admin, "GET", "/pods", "X-Big: "+strings.Repeat("y", maxHeader+8192)+"\r\n"); code != http.StatusRequestHeaderFieldsTooLarge && code != 999 {
		t.Errorf("big header: %d", code)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := newStreams(3, 2)
	leave, ok := s.enter("a")
	if !ok {
		t.Fatal("the first has no place")
	}
	if _, ok := s.enter("a"); !ok {
		t.Fatal("the second has no place")
	}
	if _, ok := s.enter("a"); ok {
		t.Error("three streams for one pod")
	}
	if _, ok := s.enter("b"); !ok {
		t.Error("another pod has no place")
	}
	if _, ok := s.enter("c"); ok {
		t.Error("four streams in all")
	}
	leave()
	if _, ok := s.enter("c"); !ok {
		t.Error("a place that was given back is not free")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxConnections = 2 })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := dial(), dial()
	defer b.Close()
	done := make(chan int, 1)
	go func() { code, _ := w.get("/pods"); done <- code }()
	select {
	case code := <-done:
		t.Errorf("a third connection was served: %d", code)
	case <-time.After(100 * time.Millisecond):
	}
	a.Close()
	select {
	case code := <-done:
		if code != 200 {
			t.Errorf("%d", code)
		}
	case <-time.After(10 * time.Second):
		t.Error("a place that was given back is not free")
	}
}

const stampText = "2026-01-02T03:04:05.000000001Z"

func TestContainerLogs(t *testing.T) {
	w := newWorld(t, nil)
	w.write("pods/ns_web-0/main/1.log", []byte(stampText+" stdout F now\n"+stampText+" stderr F oops\n"))
	w.write("pods/ns_web-0/main/0.log", []byte(stampText+" stdout F before\n"))
	w.write("pods/ns_web-0/crash/4.log", []byte(stampText+" stdout F crashed\n"))
	for _, test := range []struct {
		path string
		code int
		want string
	}{
		{"main", 200, "now\noops"},
		{"main?previous=true", 200, "before"},
		{"main?timestamps=true&tailLines=1", 200, stampText + " oops"},
		{"main?tail=1", 200, "oops"},
		{"main?tail=all", 200, "now\noops"},
		{"main?stream=Stdout", 200, "now"},
		{"main?stream=Stderr", 200, "oops"},
		{"main?stream=All", 200, "now\noops"},
		{"main?limitBytes=3", 200, "now"},
		{"main?sinceTime=2027-01-01T00:00:00Z", 200, ""},
		{"main?sinceSeconds=999999999999999999", 200, "now\noops"},
		{"main?stream=Both", 422, ""},
		{"main?stream=Stdout&tailLines=1", 422, ""},
		{"main?tailLines=-1", 422, ""},
		{"main?limitBytes=0", 422, ""},
		{"main?sinceSeconds=1&sinceTime=2027-01-01T00:00:00Z", 422, ""},
		{"main?tailLines=many", 400, ""},
		{"main?follow=perhaps", 400, ""},
		{"main?sinceTime=yesterday", 400, ""},
		{"crash", 200, "crashed"},
		{"crash?previous=true", 200, "crashed"}, // it waits to be started again
		{"waiting", 400, "trying and failing to pull image"},
		{"init", 400, "waiting to start"},
		{"nope", 404, "not found in pod"},
		{"term", 400, "not there"}, // its log file is gone
		{"term?previous=true", 400, "previous terminated container"},
	} {
		code, body := w.get("/containerLogs/ns/web-0/" + test.path)
		if code != test.code || test.code == 200 && body != test.want || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %q, want %d %q", test.path, code, body, test.code, test.want)
		}
	}
	if code, _ := w.get("/containerLogs/ns/other/main"); code != 404 {
		t.Errorf("another pod: %d", code)
	}
}

// Following ends when the container does, and gives what was written until then.
func TestFollowLogs(t *testing.T) {
	w := newWorld(t, nil)
	file := "pods/ns_web-0/main/1.log"
	w.write(file, []byte(stampText+" stdout F one\n"))
	req, err := http.NewRequest("GET", w.url+"/containerLogs/ns/web-0/main?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client(w.tls("admin")).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	next := func() string {
		t.Helper()
		l, err := lines.ReadString('\n')
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return l
	}
	if got := next(); got != "one\n" {
		t.Fatalf("got %q", got)
	}
	w.write(file, []byte(stampText+" stdout F one\n"+stampText+" stdout F two\n"))
	if got := next(); got != "two\n" {
		t.Fatalf("got %q", got)
	}
	w.writers.Runtime.Set(podUIDText, w.runtimeOf(model.ContainerExited))
	if got := next(); got != "" {
		t.Fatalf("got %q after the container ended", got)
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t, nil)
	admin := w.client(w.tls("admin"))
	if code, body := w.do(admin, "POST", "/run/ns/web-0/main?cmd=ls+-l", nil); code != 200 || body != "out" {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := w.do(admin, "POST", "/run/ns/web-0/"+podUIDText+"/main?cmd=ls", nil); code != 200 {
		t.Errorf("with UID: %d", code)
	}
	if code, _ := w.do(admin, "POST", "/run/ns/web-0/another-uid/main?cmd=ls", nil); code != 404 {
		t.Errorf("with another UID: %d", code)
	}
	if code, _ := w.do(admin, "POST", "/run/ns/web-0/main", nil); code != 400 {
		t.Errorf("without a command: %d", code)
	}
	if code, _ := w.do(admin, "GET", "/run/ns/web-0/main?cmd=ls", nil); code != 405 {
		t.Errorf("GET: %d", code)
	}
	if got := w.runtime.requests; len(got) != 2 || got[0] != "execsync c1 [ls -l]" {
		t.Errorf("the runtime was asked %v", got)
	}
}

// A rate needs two readings, and forgets what is gone.
func TestRates(t *testing.T) {
	r := newRates()
	at := time.Unix(1000, 0)
	read := func(after time.Duration, cpu time.Duration) *uint64 {
		r.begin()
		defer r.end()
		return r.rate("a", usageAt(at.Add(after), cpu))
	}
	if got := read(0, 10*time.Second); got != nil {
		t.Errorf("first reading: %d", *got)
	}
	if got := read(10*time.Second, 15*time.Second); got == nil || *got != 5e8 {
		t.Errorf("half a core: %v", got)
	}
	if got := read(10*time.Second+time.Millisecond, 15*time.Second); got == nil || *got != 5e8 {
		t.Errorf("too soon: %v", got)
	}
	r.begin()
	r.end()
	if len(r.last) != 0 {
		t.Error("what is gone is remembered")
	}
}

func TestPodChoice(t *testing.T) {
	w := newWorld(t, nil)
	rec := httptest.NewRecorder()
	w.server.pods(rec, nil, request{})
	if p := pod(w.store.Snapshot(), request{namespace: "ns", pod: "web-0", uid: "x"}); p != nil {
		t.Error("a pod of another UID")
	}
}

func usageAt(at time.Time, cpu time.Duration) *cgroup.Usage { return &cgroup.Usage{At: at, CPU: cpu} }
