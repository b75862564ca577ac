package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"nodelet/internal/model"
)

// session is one stream into a pod: the runtime is asked for the address of a stream, which it gives
// for one use within a minute, and then the client is joined to that address.
type session struct {
	pod *corev1.Pod
	ask func(context.Context) (interface{ GetUrl() string }, error)
	// carry joins the client to the runtime's streaming server until the stream ends. Its error is
	// for a client that has not been answered yet.
	carry func(w http.ResponseWriter, r *http.Request, location *url.URL) error
}

// open runs a session from its beginning to its end.
func (s *Server) open(w http.ResponseWriter, r *http.Request, req request, ses session) {
	leave, ok := s.streams.enter(string(ses.pod.UID))
	if !ok {
		tooMany(w)
		return
	}
	defer leave()
	err := func() error {
		answer, err := ses.ask(r.Context())
		if err != nil {
			return err
		}
		location, err := url.Parse(answer.GetUrl())
		if err != nil {
			return fmt.Errorf("read the address of the stream: %w", err)
		}
		return ses.carry(w, r, location)
	}()
	if err != nil {
		s.streamError(w, req, err)
	}
}

// refusal is an error with the status that the client gets.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

// streamError tells a client why there is no stream.
func (s *Server) streamError(w http.ResponseWriter, req request, err error) {
	code := http.StatusInternalServerError
	var refused *refusal
	if errors.As(err, &refused) {
		code = refused.code
	} else {
		s.deps.Log.Error("kubelet API: open a stream in the runtime", "request", req, "err", err)
	}
	http.Error(w, err.Error(), code)
}

// target is what a request means: a pod, and the container in it that runs.
type target struct {
	pod  *corev1.Pod
	spec *corev1.Container
	id   string
}

// container finds the container that a request names.
func (s *Server) container(req request) (target, error) {
	snap := s.deps.Store.Snapshot()
	p := pod(snap, req)
	if p == nil {
		return target{}, &refusal{http.StatusNotFound, "pod does not exist"}
	}
	spec := containerSpec(p, req.container)
	c, err := runningContainer(snap, p, req.container)
	if spec == nil || err != nil {
		return target{}, &refusal{http.StatusNotFound, fmt.Sprintf("container not found (%q)", req.container)}
	}
	return target{p, spec, c.ID}, nil
}

// sandbox finds the pod that a request names, and its sandbox.
func (s *Server) sandbox(req request) (*corev1.Pod, *model.Sandbox, error) {
	snap := s.deps.Store.Snapshot()
	p := pod(snap, req)
	if p == nil {
		return nil, nil, &refusal{http.StatusNotFound, "pod does not exist"}
	}
	sandbox, err := readySandbox(snap, p)
	if err != nil {
		return nil, nil, &refusal{http.StatusNotFound, err.Error()}
	}
	return p, sandbox, nil
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
		return o, &refusal{http.StatusBadRequest, "you must specify at least 1 of stdin, stdout, stderr"}
	}
	return o, nil
}

// exec runs a command in a container.
func (s *Server) exec(w http.ResponseWriter, r *http.Request, req request) {
	command := r.URL.Query()["command"]
	opts, err := parseStreams(r.URL.Query())
	if err == nil && len(command) == 0 {
		err = &refusal{http.StatusBadRequest, "you must specify a command"}
	}
	var to target
	if err == nil {
		to, err = s.container(req)
	}
	if err != nil {
		s.streamError(w, req, err)
		return
	}
	s.open(w, r, req, session{
		pod: to.pod, carry: s.commandCarrier(r, opts),
		ask: func(ctx context.Context) (interface{ GetUrl() string }, error) {
			return s.deps.Runtime.Exec(ctx, &runtimev1.ExecRequest{
				ContainerId: to.id, Cmd: command, Tty: opts.tty, Stdin: opts.stdin, Stdout: opts.stdout, Stderr: opts.stderr,
			})
		},
	})
}

// attach joins the main process of a container.
func (s *Server) attach(w http.ResponseWriter, r *http.Request, req request) {
	opts, err := parseStreams(r.URL.Query())
	var to target
	if err == nil {
		to, err = s.container(req)
	}
	if err != nil {
		s.streamError(w, req, err)
		return
	}
	// Whether there is a terminal was decided when the container was created.
	opts.tty = to.spec.TTY
	opts.stderr = opts.stderr && !opts.tty
	s.open(w, r, req, session{
		pod: to.pod, carry: s.commandCarrier(r, opts),
		ask: func(ctx context.Context) (interface{ GetUrl() string }, error) {
			return s.deps.Runtime.Attach(ctx, &runtimev1.AttachRequest{
				ContainerId: to.id, Tty: opts.tty, Stdin: opts.stdin, Stdout: opts.stdout, Stderr: opts.stderr,
			})
		},
	})
}

// commandCarrier chooses by the client's protocol: runtimes speak SPDY and the WebSocket protocols
// up to the fourth themselves.
func (s *Server) commandCarrier(r *http.Request, opts streamOptions) func(http.ResponseWriter, *http.Request, *url.URL) error {
	if !wsstream.IsWebSocketRequestWithStreamCloseProtocol(r) {
		return s.join
	}
	return func(w http.ResponseWriter, r *http.Request, location *url.URL) error {
		return s.translate(w, r, location, opts)
	}
}

// portForward joins a client to ports of a pod.
func (s *Server) portForward(w http.ResponseWriter, r *http.Request, req request) {
	carry := s.join
	tunnel := wsstream.IsWebSocketRequestWithTunnelingProtocol(r)
	if tunnel {
		carry = s.tunnel
	}
	ports, err := parsePorts(r, tunnel)
	var p *corev1.Pod
	var sandbox *model.Sandbox
	if err == nil {
		p, sandbox, err = s.sandbox(req)
	}
	if err != nil {
		s.streamError(w, req, err)
		return
	}
	s.open(w, r, req, session{
		pod: p, carry: carry,
		ask: func(ctx context.Context) (interface{ GetUrl() string }, error) {
			return s.deps.Runtime.PortForward(ctx, &runtimev1.PortForwardRequest{PodSandboxId: sandbox.ID, Port: ports})
		},
	})
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
				return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("port %q is not a number from 1 to 65535", text)}
			}
			ports = append(ports, int32(port))
		}
	}
	if len(ports) == 0 {
		return nil, &refusal{http.StatusBadRequest, fmt.Sprintf("query parameter %q is required", "port")}
	}
	return ports, nil
}

// run runs a command to its end and gives its output.
func (s *Server) run(w http.ResponseWriter, r *http.Request, req request) {
	command := strings.Split(r.URL.Query().Get("cmd"), " ") // as upstream always did
	if command[0] == "" {
		http.Error(w, "you must specify a command", http.StatusBadRequest)
		return
	}
	to, err := s.container(req)
	if err != nil {
		s.streamError(w, req, err)
		return
	}
	leave, ok := s.streams.enter(string(to.pod.UID))
	if !ok {
		tooMany(w)
		return
	}
	defer leave()
	resp, err := s.deps.Runtime.ExecSync(r.Context(), &runtimev1.ExecSyncRequest{
		ContainerId: to.id, Cmd: command, Timeout: int64(s.cfg.RequestTimeout / time.Second),
	})
	if err != nil {
		s.streamError(w, req, err)
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
