package server

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	remotecommandserver "k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"nodelet/agent/stats"
	"nodelet/internal/cgroup"
	"nodelet/internal/metrics"
	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/internal/zpages"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// klog's flusher lives as long as the process; libraries of Kubernetes bring it.
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// The test's WebSocket client notices the end of its connection at its next ping.
		goleak.IgnoreTopFunction("k8s.io/client-go/tools/remotecommand.(*heartbeat).start"),
		// So does its SPDY client when it is cut off while it opens a stream, for up to 30 s.
		goleak.IgnoreAnyFunction("k8s.io/client-go/tools/remotecommand.(*spdyStreamExecutor).StreamWithContext.func1"),
		// SPDY offers the error of closing to nobody for one second.
		goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"),
	)
}

// authority signs certificates for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign makes a certificate and its key, both in PEM.
func (a *authority) sign(t testing.TB, subject pkix.Name, usage x509.ExtKeyUsage, life time.Duration) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b})
}

// reviews is an API server that knows one token and a list of what is allowed.
type reviews struct {
	mu      sync.Mutex
	tokens  map[string]string // token -> user
	allowed map[string]bool   // "user verb subresource"; "user *" for everything
	err     error
	asked   []string
}

func (r *reviews) TokenReview(_ context.Context, t *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, "token")
	if r.err != nil {
		return nil, r.err
	}
	user, ok := r.tokens[t.Spec.Token]
	return &authenticationv1.TokenReview{Status: authenticationv1.TokenReviewStatus{Authenticated: ok, User: authenticationv1.UserInfo{Username: user}}}, nil
}

func (r *reviews) SubjectAccessReview(_ context.Context, s *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := s.Spec.ResourceAttributes
	r.asked = append(r.asked, fmt.Sprintf("%s %s %s/%s/%s", s.Spec.User, a.Verb, a.Resource, a.Name, a.Subresource))
	if r.err != nil {
		return nil, r.err
	}
	ok := r.allowed[s.Spec.User+" *"] || r.allowed[s.Spec.User+" "+a.Verb+" "+a.Subresource]
	for _, g := range s.Spec.Groups {
		ok = ok || r.allowed[g+" *"]
	}
	return &authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: ok}}, nil
}

func (r *reviews) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// shell is what runs in every container of the tests: it does what its command says.
type shell struct{ hanging, ended chan struct{} }

func (s shell) Exec(ctx context.Context, _ string, cmd []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommandserver.TerminalSize) error {
	switch cmd[0] {
	case "cat":
		_, err := io.Copy(out, in)
		return err
	case "both":
		fmt.Fprint(out, "to stdout")
		if errOut != nil {
			fmt.Fprint(errOut, "to stderr")
		}
		return nil
	case "line":
		line, err := bufio.NewReader(in).ReadString('\n')
		fmt.Fprint(out, line)
		return err
	case "size":
		size := <-resize
		fmt.Fprintf(out, "%dx%d", size.Width, size.Height)
		return nil
	case "sizes":
		for range 2 {
			size := <-resize
			fmt.Fprintf(out, "%dx%d ", size.Width, size.Height)
		}
		return nil
	case "hang":
		s.hanging <- struct{}{}
		_, err := io.Copy(io.Discard, in)
		s.ended <- struct{}{}
		return err
	case "fail":
		return exit(7)
	}
	return errors.New("no such command")
}

// exit is how a command's exit code is told.
type exit int

func (e exit) Error() string   { return fmt.Sprintf("exit %d", int(e)) }
func (e exit) String() string  { return e.Error() }
func (e exit) Exited() bool    { return true }
func (e exit) ExitStatus() int { return int(e) }

func (s shell) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommandserver.TerminalSize) error {
	return s.Exec(ctx, id, []string{"both"}, in, out, errOut, tty, resize)
}

func (s shell) PortForward(_ context.Context, _ string, port int32, stream io.ReadWriteCloser) error {
	fmt.Fprintf(stream, "port %d: ", port)
	_, err := io.Copy(stream, stream)
	if port == 82 {
		s.ended <- struct{}{}
	}
	return err
}

// scripted is a container runtime with a real streaming server.
type scripted struct {
	streaming.Server
	mu       sync.Mutex
	requests []string
	fixed    string // if not empty, the address that is given for each stream
}

func (s *scripted) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, fmt.Sprintf(format, args...))
}

func (s *scripted) Exec(_ context.Context, r *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	s.note("exec %s %v", r.ContainerId, r.Cmd)
	if s.fixed != "" {
		return &runtimev1.ExecResponse{Url: s.fixed}, nil
	}
	return s.GetExec(r)
}

func (s *scripted) ExecSync(_ context.Context, r *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	s.note("execsync %s %v", r.ContainerId, r.Cmd)
	return &runtimev1.ExecSyncResponse{Stdout: []byte("out")}, nil
}

func (s *scripted) Attach(_ context.Context, r *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error) {
	s.note("attach %s tty=%t", r.ContainerId, r.Tty)
	return s.GetAttach(r)
}

func (s *scripted) PortForward(_ context.Context, r *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error) {
	s.note("portforward %s", r.PodSandboxId)
	if s.fixed != "" {
		return &runtimev1.PortForwardResponse{Url: s.fixed}, nil
	}
	return s.GetPortForward(r)
}

// measured is what the world's Stats gives.
type measured struct {
	all   stats.All
	depth stats.Depth
}

func (m *measured) Read(_ context.Context, depth stats.Depth) stats.All {
	m.depth = depth
	return m.all
}

func usage(w *world) *measured {
	snap := w.store.Snapshot()
	p, _ := snap.Pods.Get(podUIDText)
	rt, _ := snap.Runtime.Get(podUIDText)
	at := time.Now()
	u := &cgroup.Usage{At: at, CPU: 5 * time.Second, CPUUser: 3 * time.Second, Memory: 8192, WorkingSet: 4096, MemoryLimit: 1 << 20, PIDs: 3, OOMKills: 2,
		Swap: 7, Pressure: &cgroup.Pressure{IO: cgroup.Stall{Some: cgroup.StallTime{Total: time.Second}}}, IO: cgroup.IO{ReadBytes: 11}}
	fs := &stats.Space{At: at, Available: 60, Capacity: 100, Used: 40, InodesFree: 6, InodesAll: 10, InodesUsed: 4}
	pod := stats.Pod{Pod: p, Cgroup: "/kubepods/podx", Usage: u, Interfaces: []stats.Interface{{Name: "eth0", RxBytes: 9}}, Ephemeral: fs,
		Volumes: []stats.Volume{{Name: "data", Claim: "claim", Space: *fs}, {Name: "tmp", Local: true, Space: *fs}}}
	if rt != nil {
		pod.Sandbox = &rt.Sandboxes[0]
		for i := range rt.Containers {
			if c := &rt.Containers[i]; c.State == model.ContainerRunning {
				pod.Containers = append(pod.Containers, stats.Container{Container: c, Cgroup: "/kubepods/podx/" + c.ID, Usage: u, Rootfs: fs, Logs: fs})
			}
		}
	}
	node := stats.Node{At: at, Usage: u, Memory: 1 << 20, Swap: 100, SwapFree: 90, Boot: at, Fs: fs, ImageFs: fs, ContainerFs: fs, Processes: 8, MaxProcesses: 1000,
		Interfaces: []stats.Interface{{Name: "uplink", TxBytes: 5}}, System: map[string]*cgroup.Usage{"pods": u, "kubelet": u}}
	return &measured{all: stats.All{Node: node, Pods: []stats.Pod{pod}}}
}

// world is a server and all around it.
type world struct {
	t       testing.TB
	ca      *authority
	dir     string
	cfg     Config
	reviews *reviews
	runtime *scripted
	store   *store.Store
	writers *store.Writers
	server  *Server
	url     string
	seen    []*http.Request // what the streaming server was asked
	seenMu  sync.Mutex
	hanging chan struct{} // receives when a command that hangs has begun
	ended   chan struct{} // and when it has ended, or a connection to port 82 has
	stop    func()
}

const podUIDText = "0b2b4e1e-1111-2222-3333-444455556666"

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, ca: newAuthority(t, "ca"), dir: t.TempDir(), hanging: make(chan struct{}, 10), ended: make(chan struct{}, 10)}
	w.reviews = &reviews{tokens: map[string]string{"good": "robot"}, allowed: map[string]bool{"admin *": true, "robot get metrics": true}}
	cert, key := w.ca.sign(t, pkix.Name{CommonName: "node"}, x509.ExtKeyUsageServerAuth, time.Hour)
	w.write("tls.crt", cert)
	w.write("tls.key", key)
	w.write("ca.crt", w.ca.pem)
	w.cfg = Config{
		NodeName: "n1", Address: "127.0.0.1:0", CertFile: w.path("tls.crt"), KeyFile: w.path("tls.key"), ClientCAFile: w.path("ca.crt"),
		PodLogsRoot: w.path("pods"), Configz: map[string]string{"kind": "x"},
		Status: zpages.Status{Version: "v1.36.0"}, Flags: map[string]string{"a-flag": "its value"},
	}
	if change != nil {
		change(&w.cfg)
	}
	w.startRuntime()
	w.store, w.writers = store.New()
	w.fill()
	w.start()
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, content []byte) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) startRuntime() {
	cfg := streaming.DefaultConfig
	l := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.seenMu.Lock()
		w.seen = append(w.seen, r.Clone(context.Background()))
		w.seenMu.Unlock()
		w.runtime.ServeHTTP(rw, r)
	}))
	cfg.BaseURL = &url.URL{Scheme: "http", Host: l.Listener.Addr().String()}
	cfg.Addr = l.Listener.Addr().String()
	s, err := streaming.NewServer(cfg, shell{w.hanging, w.ended})
	if err != nil {
		w.t.Fatal(err)
	}
	w.runtime = &scripted{Server: s}
	l.Start()
	w.t.Cleanup(func() {
		l.CloseClientConnections()
		l.Close()
	})
}

// fill puts a pod with a few containers into the store.
func (w *world) fill() {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0", UID: podUIDText, ResourceVersion: "1"}}
	p.Spec.InitContainers = []corev1.Container{{Name: "init"}}
	p.Spec.Containers = []corev1.Container{{Name: "main"}, {Name: "term", TTY: true, Stdin: true}, {Name: "crash"}, {Name: "waiting"}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "waiting", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}},
		{Name: "crash", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}},
	}
	w.writers.Pods.Replace(map[model.UID]*corev1.Pod{podUIDText: p})
	w.writers.Runtime.Replace(map[model.UID]*model.PodRuntime{podUIDText: w.runtimeOf(model.ContainerRunning)})
}

func (w *world) runtimeOf(main model.ContainerState) *model.PodRuntime {
	log := func(name string) string { return w.path("pods/ns_web-0/" + name) }
	return &model.PodRuntime{
		UID: podUIDText, Pod: model.Key{Namespace: "ns", Name: "web-0"},
		Sandboxes: []model.Sandbox{{ID: "s1", Ready: true}},
		Containers: []model.Container{
			{ID: "c1", Name: "main", Attempt: 1, State: main, LogPath: log("main/1.log")},
			{ID: "c0", Name: "main", State: model.ContainerExited, LogPath: log("main/0.log")},
			{ID: "t1", Name: "term", State: model.ContainerRunning, LogPath: log("term/0.log")},
			{ID: "x1", Name: "crash", Attempt: 4, State: model.ContainerExited, LogPath: log("crash/4.log")},
		},
	}
}

func (w *world) start() {
	w.t.Helper()
	probes := metrics.New()
	probes.Probes().Count(metrics.Probed{Type: "Liveness"}, "successful", time.Millisecond)
	process := metrics.New()
	process.NodeName("n1")
	s, err := New(w.cfg, Deps{
		Store: w.store, Runtime: w.runtime, Reviews: w.reviews, Stats: usage(w), Log: slog.New(slog.DiscardHandler),
		Metrics: Metrics{Process: process.Handler(), Probes: probes.Handler(), Request: process.HTTP().Request},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = s
	// The port is chosen by the kernel, so the address is learnt by asking for one first.
	l, err := net.Listen("tcp", w.cfg.Address)
	if err != nil {
		w.t.Fatal(err)
	}
	s.cfg.Address = l.Addr().String()
	l.Close()
	w.url = "https://" + s.cfg.Address
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Errorf("run: %v", err)
			}
		case <-time.After(10 * time.Second):
			w.t.Error("the server does not stop")
		}
	})
	w.t.Cleanup(w.stop)
	for range 200 {
		if c, err := net.Dial("tcp", s.cfg.Address); err == nil {
			c.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("the server does not listen")
}

// tls is the configuration of a client with that name; empty for one without certificate.
func (w *world) tls(user string, groups ...string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(w.ca.cert)
	c := &tls.Config{RootCAs: pool}
	if user != "" {
		cert, key := w.ca.sign(w.t, pkix.Name{CommonName: user, Organization: groups}, x509.ExtKeyUsageClientAuth, time.Hour)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			w.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func (w *world) client(c *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
	return &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get asks as admin.
func (w *world) get(path string) (int, string) {
	w.t.Helper()
	return w.do(w.client(w.tls("admin")), http.MethodGet, path, nil)
}

func (w *world) do(c *http.Client, method, path string, header http.Header) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}
