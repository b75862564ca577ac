package kube

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// streamBuffer holds what came until it is decoded.
const streamBuffer = 16 << 10

// frameLimit bounds one event, as client-go's own decoder does.
const frameLimit = 16 << 20

// stream is a watch of one kind of object. client-go's own copies and wraps each object several times
// on its way, for kinds that are not known beforehand; this one reads it where it lies in the frame,
// and notes when it came.
type stream struct {
	body   *arriving
	kind   runtime.Object
	got    *received
	events chan watch.Event
	done   chan struct{}
	once   sync.Once
}

// openStream starts a watch. kind is an empty object of what is watched.
func openStream(ctx context.Context, req *rest.Request, kind runtime.Object, got *received) (watch.Interface, error) {
	body, err := req.Stream(ctx)
	if err != nil {
		return nil, err
	}
	s := &stream{body: &arriving{ReadCloser: body}, kind: kind, got: got, events: make(chan watch.Event), done: make(chan struct{})}
	go s.run()
	return s, nil
}

// ResultChan is closed when the watch ends.
func (s *stream) ResultChan() <-chan watch.Event { return s.events }

// Stop ends the watch.
func (s *stream) Stop() {
	s.once.Do(func() {
		close(s.done)
		_ = s.body.Close()
	})
}

func (s *stream) run() {
	defer close(s.events)
	defer s.Stop()
	next, err := s.decoder()
	for err == nil {
		var e watch.Event
		if e, err = next(); err == nil && !s.send(e) {
			return
		}
	}
	// Watches end all the time, by the server's limit or with the connection; who watches begins again.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || net.IsProbableEOF(err) || net.IsTimeout(err) {
		return
	}
	status := apierrors.NewClientErrorReporter(http.StatusInternalServerError, http.MethodGet, "ClientWatchDecoding").
		AsObject(fmt.Errorf("read the watch: %w", err))
	s.send(watch.Event{Type: watch.Error, Object: status})
}

// send gives false when nobody wants to hear more.
func (s *stream) send(e watch.Event) bool {
	select {
	case <-s.done: // a closed body is no error
		return false
	default:
	}
	select {
	case <-s.done:
		return false
	case s.events <- e:
		return true
	}
}

// decoder tells by the first byte what the server speaks: a frame's length begins with a zero, JSON never does.
func (s *stream) decoder() (func() (watch.Event, error), error) {
	in := bufio.NewReaderSize(s.body, streamBuffer)
	first, err := in.Peek(1)
	if err != nil {
		return nil, err
	}
	if first[0] == 0 {
		return (&framed{s, in, nil}).next, nil
	}
	return (&lines{s, json.NewDecoder(in)}).next, nil
}

// object makes the empty object that an event of that type carries.
func (s *stream) object(verb string) (runtime.Object, error) {
	switch watch.EventType(verb) {
	case watch.Added, watch.Modified, watch.Deleted, watch.Bookmark:
		return s.kind.DeepCopyObject(), nil
	case watch.Error:
		return &metav1.Status{}, nil
	}
	return nil, fmt.Errorf("an event of type %q is none of a watch", verb)
}

// lines reads events in JSON.
type lines struct {
	*stream
	in *json.Decoder
}

func (l *lines) next() (watch.Event, error) {
	var e struct {
		Type   string
		Object json.RawMessage
	}
	if err := l.in.Decode(&e); err != nil {
		return watch.Event{}, err
	}
	at := l.body.at
	o, err := l.object(e.Type)
	if err != nil {
		return watch.Event{}, err
	}
	if err := json.Unmarshal(e.Object, o); err != nil {
		return watch.Event{}, fmt.Errorf("decode an object: %w", err)
	}
	l.got.note(o, at)
	return watch.Event{Type: watch.EventType(e.Type), Object: o}, nil
}

// framed reads events in protobuf: the length of each in four bytes, most significant first, then a
// WatchEvent (k8s.io/apimachinery/pkg/util/framer).
type framed struct {
	*stream
	in    *bufio.Reader
	frame []byte // is used again: nothing decoded points into it
}

func (f *framed) next() (watch.Event, error) {
	var head [4]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return watch.Event{}, err
	}
	at := f.body.at
	n := binary.BigEndian.Uint32(head[:])
	if n > frameLimit {
		return watch.Event{}, fmt.Errorf("an event has %d bytes: more than %d", n, frameLimit)
	}
	if cap(f.frame) < int(n) {
		f.frame = make([]byte, n)
	}
	frame := f.frame[:n]
	if _, err := io.ReadFull(f.in, frame); err != nil {
		return watch.Event{}, err
	}
	if cap(f.frame) > streamBuffer { // one large object shall not cost memory for ever
		f.frame = nil
	}
	verb, body, err := openEvent(frame)
	if err != nil {
		return watch.Event{}, err
	}
	o, err := f.object(verb)
	if err != nil {
		return watch.Event{}, err
	}
	m, ok := o.(interface{ Unmarshal([]byte) error })
	if !ok {
		return watch.Event{}, fmt.Errorf("decode an object: %T has no protobuf form", o)
	}
	if err := m.Unmarshal(body); err != nil {
		return watch.Event{}, fmt.Errorf("decode an object: %w", err)
	}
	f.got.note(o, at)
	return watch.Event{Type: watch.EventType(verb), Object: o}, nil
}

// arriving notes when the last bytes came.
type arriving struct {
	io.ReadCloser
	at time.Time
}

func (a *arriving) Read(b []byte) (int, error) {
	n, err := a.ReadCloser.Read(b)
	a.at = time.Now()
	return n, err
}

// received remembers when the last objects of a stream came: the one that is being taken up, and the
// one that waits behind it. A nil one remembers nothing.
type received struct {
	mu   sync.Mutex
	last [2]arrival
}

type arrival struct {
	object any
	at     time.Time
}

func (r *received) note(o runtime.Object, at time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[0], r.last[1] = r.last[1], arrival{o, at}
}

// at is when an object came; zero for one that is not remembered, such as those of a list. It is asked once.
func (r *received) at(o any) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, a := range r.last {
		if a.object == o {
			r.last[i] = arrival{}
			return a.at
		}
	}
	return time.Time{}
}
