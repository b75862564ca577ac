package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/proxy"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	corev1 "k8s.io/api/core/v1"
)

// streams counts what is open, in all and per pod.
type streams struct {
	mu       sync.Mutex
	all      int
	pods     map[string]int
	max, pod int
	running  sync.WaitGroup
}

func newStreams(max, pod int) *streams {
	return &streams{pods: map[string]int{}, max: max, pod: pod}
}

// enter takes a place for a stream; false when there is none. leave gives it back.
func (s *streams) enter(pod string) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= s.max || s.pods[pod] >= s.pod {
		return nil, false
	}
	s.all++
	s.pods[pod]++
	s.running.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		s.pods[pod]--
		if s.pods[pod] == 0 {
			delete(s.pods, pod)
		}
		s.running.Done()
	}, true
}

// wait waits until all streams have ended, for a while: one that is just being opened in a runtime
// that does not answer notices its end only after 30 s, in the SPDY library.
func (s *streams) wait() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running.Wait()
	}()
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, "too many streams are open: end one, or wait", http.StatusTooManyRequests)
}

// streamOptions are the streams of a command.
type streamOptions struct {
	stdin, stdout, stderr, tty bool
}

// parseStreams reads which streams a client wants.
func parseStreams(v url.Values) (streamOptions, error) {
	o := streamOptions{stdin: v.Get("input") == "1", stdout: v.Get("output") == "1", stderr: v.Get("error") == "1", tty: v.Get("tty") == "1"}
	if o.tty && o.stderr {
		o.stderr = false // a terminal has one output
	}
	if !o.stdin && !o.stdout && !o.stderr {
		return o, fmt.Errorf("you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

// exec runs a command in a container.
func (s *Server) exec(w http.ResponseWriter, r *http.Request, req request) {
	q := r.URL.Query()
	opts, err := parseStreams(q)
	command := q["command"]
	if err == nil && len(command) == 0 {
		err = fmt.Errorf("you must specify a command")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.intoContainer(w, r, req, func(id string, _ *corev1.Container) (string, streamOptions, error) {
		resp, err := s.deps.Runtime.Exec(r.Context(), &runtimev1.ExecRequest{
			ContainerId: id, Cmd: command, Tty: opts.tty, Stdin: opts.stdin, Stdout: opts.stdout, Stderr: opts.stderr,
		})
		return resp.GetUrl(), opts, err
	})
}

// attach joins the main process of a container.
func (s *Server) attach(w http.ResponseWriter, r *http.Request, req request) {
	opts, err := parseStreams(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.intoContainer(w, r, req, func(id string, spec *corev1.Container) (string, streamOptions, error) {
		// Whether there is a terminal was decided when the container was created.
		opts.tty = spec.TTY
		opts.stderr = opts.stderr && !opts.tty
		resp, err := s.deps.Runtime.Attach(r.Context(), &runtimev1.AttachRequest{
			ContainerId: id, Tty: opts.tty, Stdin: opts.stdin, Stdout: opts.stdout, Stderr: opts.stderr,
		})
		return resp.GetUrl(), opts, err
	})
}

// intoContainer finds the container, asks the runtime for the address of a stream into it, and joins the client to it.
func (s *Server) intoContainer(w http.ResponseWriter, r *http.Request, req request, ask func(id string, spec *corev1.Container) (string, streamOptions, error)) {
	snap := s.deps.Store.Snapshot()
	p := pod(snap, req)
	if p == nil {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	spec := containerSpec(p, req.container)
	c, err := runningContainer(snap, p, req.container)
	if spec == nil || err != nil {
		http.Error(w, fmt.Sprintf("container not found (%q)", req.container), http.StatusNotFound)
		return
	}
	leave, ok := s.streams.enter(string(p.UID))
	if !ok {
		tooMany(w)
		return
	}
	defer leave()
	address, opts, err := ask(c.ID, spec)
	if err != nil {
		s.runtimeError(w, req, err)
		return
	}
	location, err := url.Parse(address)
	if err != nil {
		s.runtimeError(w, req, err)
		return
	}
	if wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		s.translate(w, r, location, opts)
		return
	}
	s.join(w, r, location)
}

func (s *Server) runtimeError(w http.ResponseWriter, req request, err error) {
	s.deps.Log.Error("kubelet API: open a stream in the runtime", "request", req, "err", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// portForward joins a client to ports of a pod.
func (s *Server) portForward(w http.ResponseWriter, r *http.Request, req request) {
	tunnel := wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
	ports, err := parsePorts(r, tunnel)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	snap := s.deps.Store.Snapshot()
	p := pod(snap, req)
	if p == nil {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	sandbox, err := readySandbox(snap, p)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	leave, ok := s.streams.enter(string(p.UID))
	if !ok {
		tooMany(w)
		return
	}
	defer leave()
	resp, err := s.deps.Runtime.PortForward(r.Context(), &runtimev1.PortForwardRequest{PodSandboxId: sandbox.ID, Port: ports})
	var location *url.URL
	if err == nil {
		location, err = url.Parse(resp.GetUrl())
	}
	switch {
	case err != nil:
		s.runtimeError(w, req, err)
	case tunnel:
		s.tunnel(w, r, location)
	default:
		s.join(w, r, location)
	}
}

// parsePorts reads the ports that a WebSocket client must name beforehand; SPDY names them per stream.
func parsePorts(r *http.Request, tunnel bool) ([]int32, error) {
	if tunnel || !wsstream.IsWebSocketRequest(r) {
		return nil, nil
	}
	var ports []int32
	for _, list := range r.URL.Query()["port"] {
		for text := range strings.SplitSeq(list, ",") {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil || port == 0 {
				return nil, fmt.Errorf("port %q is not a number from 1 to 65535", text)
			}
			ports = append(ports, int32(port))
		}
	}
	if len(ports) == 0 {
		return nil, fmt.Errorf("query parameter %q is required", "port")
	}
	return ports, nil
}

// join hands the client's connection over to the runtime's streaming server, as it is. Nothing of the
// client's identity goes with it.
func (s *Server) join(w http.ResponseWriter, r *http.Request, location *url.URL) {
	if !httpstream.IsUpgradeRequest(r) {
		http.Error(w, "you must request an upgrade of the connection: SPDY/3.1 or websocket", http.StatusBadRequest)
		return
	}
	proxy.NewUpgradeAwareHandler(location, nil, false, true, &responder{s.deps.Log}).ServeHTTP(w, r)
}

// responder tells the client about a runtime that does not answer.
type responder struct{ log *slog.Logger }

// Error implements proxy.ErrorResponder.
func (r *responder) Error(w http.ResponseWriter, _ *http.Request, err error) {
	r.log.Error("kubelet API: join a stream to the runtime", "err", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

// run runs a command to its end and gives its output.
func (s *Server) run(w http.ResponseWriter, r *http.Request, req request) {
	command := strings.Split(r.URL.Query().Get("cmd"), " ") // as upstream always did
	if command[0] == "" {
		http.Error(w, "you must specify a command", http.StatusBadRequest)
		return
	}
	snap := s.deps.Store.Snapshot()
	p := pod(snap, req)
	if p == nil {
		http.Error(w, "pod does not exist", http.StatusNotFound)
		return
	}
	c, err := runningContainer(snap, p, req.container)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	leave, ok := s.streams.enter(string(p.UID))
	if !ok {
		tooMany(w)
		return
	}
	defer leave()
	resp, err := s.deps.Runtime.ExecSync(r.Context(), &runtimev1.ExecSyncRequest{
		ContainerId: c.ID, Cmd: command, Timeout: int64(s.cfg.RequestTimeout / time.Second),
	})
	if err != nil {
		s.runtimeError(w, req, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	if resp.GetExitCode() != 0 {
		w.WriteHeader(http.StatusInternalServerError)
	}
	for _, b := range [][]byte{resp.GetStdout(), resp.GetStderr()} {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}
