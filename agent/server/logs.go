package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/server/crilog"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// containerLogs gives the log of one container.
func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request, req request) {
	q, status, err := parseLogQuery(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, fmt.Sprintf(`{"message": %q}`, err.Error()), status)
		return
	}
	snap := s.deps.Store.Snapshot()
	p := pod(snap, req)
	if p == nil {
		http.Error(w, fmt.Sprintf("pod %q does not exist", req.pod), http.StatusNotFound)
		return
	}
	if !hasContainer(p, req.container) {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", req.container, req.pod), http.StatusNotFound)
		return
	}
	c, err := chooseContainer(snap, p, req.container, q.previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	leave, ok := s.streams.enter(string(p.UID))
	if !ok {
		tooMany(w)
		return
	}
	defer leave()
	s.sendLog(w, r, model.UID(p.UID), logRequest{container: c, query: q})
}

type logRequest struct {
	container *model.Container
	query     logQuery
}

// sendLog sends a log, and each piece of it as soon as there is no more to be had.
func (s *Server) sendLog(w http.ResponseWriter, r *http.Request, uid model.UID, l logRequest) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &logWriter{ctl: http.NewResponseController(w), w: w, idle: s.cfg.IdleTimeout}
	buf := bufio.NewWriterSize(out, 32<<10)
	opts := l.query.opts
	opts.Stdout, opts.Stderr = l.query.writers(buf)
	log := crilog.Log{
		Root: s.cfg.PodLogsRoot, Path: l.container.LogPath,
		Idle: func() error { return errors.Join(buf.Flush(), out.flush()) },
	}
	if opts.Follow {
		log.Ended = ended(ctx, s.deps.Store, uid, l.container.ID)
	}
	w.Header().Set("Content-Type", "text/plain")
	err := s.logs.Read(ctx, log, opts)
	if flushErr := buf.Flush(); err == nil && flushErr == nil {
		return
	}
	switch {
	case out.wrote || err == nil || r.Context().Err() != nil:
		s.deps.Log.Debug("kubelet API: send log", "container", l.container.ID, "err", err) // most often the client went away
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, fmt.Sprintf("the log of container %q is not there any more", l.container.Name), http.StatusBadRequest)
	default:
		s.deps.Log.Error("kubelet API: send log", "container", l.container.ID, "err", err)
		http.Error(w, "unable to read the log: "+err.Error(), http.StatusInternalServerError)
	}
}

// logWriter writes to a client, which has a time for each piece, not for all.
type logWriter struct {
	w     io.Writer
	ctl   *http.ResponseController
	idle  time.Duration
	wrote bool
}

// Write writes one piece.
func (l *logWriter) Write(p []byte) (int, error) {
	l.wrote = true
	_ = l.ctl.SetWriteDeadline(time.Now().Add(l.idle)) // a recorder in a test has none
	return l.w.Write(p)
}

func (l *logWriter) flush() error {
	l.wrote = true
	if err := l.ctl.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// ended gives a channel that is closed when the container runs no more, as far as the store knows.
func ended(ctx context.Context, st *store.Store, uid model.UID, id string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			snap := st.Snapshot()
			rt, ok := snap.Runtime.Get(uid)
			if !ok {
				return
			}
			c := rt.ByID(id)
			if c == nil || c.State == model.ContainerExited {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-snap.Changed():
			}
		}
	}()
	return done
}

// logQuery is what a client wants of a log.
type logQuery struct {
	previous bool
	stream   string
	opts     crilog.Options
}

func (q logQuery) writers(w io.Writer) (stdout, stderr io.Writer) {
	switch q.stream {
	case corev1.LogStreamStdout:
		return w, nil
	case corev1.LogStreamStderr:
		return nil, w
	}
	return w, w
}

// parseLogQuery reads the query of a request for a log, with the API's rules.
func parseLogQuery(v url.Values, now time.Time) (logQuery, int, error) {
	p := &queryParser{values: v}
	q := logQuery{previous: p.flag("previous"), stream: v.Get("stream")}
	q.opts.Follow, q.opts.Timestamps = p.flag("follow"), p.flag("timestamps")
	switch tail := v.Get("tail"); tail { // of old clients
	case "all":
	case "":
		q.opts.TailLines = p.number("tailLines", 0)
	default:
		q.opts.TailLines = p.number("tail", 0)
	}
	q.opts.LimitBytes = p.number("limitBytes", 1)
	if seconds := p.number("sinceSeconds", 1); seconds != nil {
		q.opts.Since = now.Add(-time.Duration(min(*seconds, maxSeconds)) * time.Second)
	}
	if since := v.Get("sinceTime"); since != "" {
		if !q.opts.Since.IsZero() {
			p.invalid = errors.New("at most one of sinceTime or sinceSeconds may be specified")
		}
		t, err := time.Parse(time.RFC3339, since)
		if err != nil {
			p.bad = fmt.Errorf("sinceTime %q is not a time in RFC 3339", since)
		}
		q.opts.Since = t
	}
	switch q.stream {
	case "":
		q.stream = corev1.LogStreamAll
	case corev1.LogStreamAll:
	case corev1.LogStreamStdout, corev1.LogStreamStderr:
		if q.opts.TailLines != nil {
			p.invalid = errors.New("tailLines and a specific stream cannot be used together")
		}
	default:
		p.invalid = fmt.Errorf("stream %q is not one of All, Stdout, Stderr", q.stream)
	}
	switch {
	case p.bad != nil:
		return q, http.StatusBadRequest, p.bad
	case p.invalid != nil:
		return q, http.StatusUnprocessableEntity, p.invalid
	}
	return q, http.StatusOK, nil
}

// maxSeconds is 100 years: more would overflow a duration.
const maxSeconds = 100 * 365 * 24 * 3600

// queryParser reads values and keeps the first thing wrong: bad cannot be read, invalid means nothing.
type queryParser struct {
	values       url.Values
	bad, invalid error
}

func (p *queryParser) flag(name string) bool {
	text := p.values.Get(name)
	if text == "" {
		return false
	}
	b, err := strconv.ParseBool(text)
	if err != nil && p.bad == nil {
		p.bad = fmt.Errorf("%s %q is neither true nor false", name, text)
	}
	return b
}

func (p *queryParser) number(name string, least int64) *int64 {
	text := p.values.Get(name)
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil && p.bad == nil:
		p.bad = fmt.Errorf("%s %q is not a number", name, text)
	case err == nil && n < least && p.invalid == nil:
		p.invalid = fmt.Errorf("%s must be at least %d", name, least)
	}
	return &n
}
