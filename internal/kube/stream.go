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
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// streamBuffer holds what came until it is decoded.
const streamBuffer = 16 << 10

// frameLimit bounds one event, as client-go's own decoder does.
const frameLimit = 16 << 20

// stream is a watch of one kind of object. client-go's own copies and wraps each object several times
// on its way, for kinds that are not known beforehand; this one reads it where it lies in the frame.
//
// Who watches is client-go's Reflector: it lists, begins again and waits between attempts, and collects
// what a first list brings as events. What comes after that list goes into the table from here, by the
// goroutine that has read it: the way by the Reflector would cost a wake more. Of these events the
// Reflector gets to know the last version, when the watch ends, as a bookmark.
type stream struct {
	target
	body   *arriving
	events chan watch.Event
	done   chan struct{}
	once   sync.Once
	// last is the version of the last event that went into the table; empty when that is told.
	last string
}

// target says what a stream reads, and where it goes.
type target struct {
	// kind is an empty object of what is watched.
	kind  runtime.Object
	table cache.ReflectorStore
	// listed: the table has the first list, so events go there.
	listed bool
	// read reads an object in protobuf where it lies, in place of kind, into what table takes; with the
	// object's version. Nil where that is not worth it.
	read func([]byte) (o any, version string, err error)
	// came is when the event came that goes into the table; zero while none does. May be nil.
	came *time.Time
}

// openStream starts a watch.
func openStream(ctx context.Context, req *rest.Request, to target) (watch.Interface, error) {
	body, err := req.Stream(ctx)
	if err != nil {
		return nil, err
	}
	s := &stream{target: to, body: &arriving{ReadCloser: body}, events: make(chan watch.Event), done: make(chan struct{})}
	go s.run()
	return s, nil
}

// ResultChan is closed when the watch ends. It has no room: who takes an event is done with the one before.
func (s *stream) ResultChan() <-chan watch.Event { return s.events }

// Stop ends the watch. When it returns, nothing more goes into the table: what the next list says stays.
func (s *stream) Stop() {
	s.end()
	for range s.events { // until run closes it
	}
}

func (s *stream) end() {
	s.once.Do(func() {
		close(s.done)
		_ = s.body.Close()
	})
}

func (s *stream) run() {
	defer close(s.events)
	defer s.end()
	defer s.noteCame(time.Time{})
	next, err := s.decoder()
	for err == nil {
		var e event
		if e, err = next(); err == nil && !s.take(e) {
			return
		}
	}
	if !s.tellLast() {
		return
	}
	// Watches end all the time, by the server's limit or with the connection; who watches begins again.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || net.IsProbableEOF(err) || net.IsTimeout(err) {
		return
	}
	status := apierrors.NewClientErrorReporter(http.StatusInternalServerError, http.MethodGet, "ClientWatchDecoding").
		AsObject(fmt.Errorf("read the watch: %w", err))
	s.send(watch.Event{Type: watch.Error, Object: status})
}

// event is one of a watch: its object, or what read makes of that.
type event struct {
	verb    watch.EventType
	object  any
	version string
}

// take passes an event on; false when nobody wants to hear more.
func (s *stream) take(e event) bool {
	if s.listed && e.verb != watch.Error {
		s.put(e)
		return true
	}
	o, ok := e.object.(runtime.Object)
	if !ok || !s.tellLast() || !s.send(watch.Event{Type: e.verb, Object: o}) {
		return false
	}
	if m, err := meta.Accessor(o); err == nil && e.verb == watch.Bookmark && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
		// The Reflector now replaces the table. It is done when it takes the same bookmark once more.
		s.listed = s.send(watch.Event{Type: e.verb, Object: o})
		return s.listed
	}
	return true
}

// put changes the table. The tables of this package refuse nothing.
func (s *stream) put(e event) {
	switch e.verb {
	case watch.Added, watch.Modified:
		_ = s.table.Add(e.object)
	case watch.Deleted:
		_ = s.table.Delete(e.object)
	}
	s.last = e.version
}

// noteCame notes when an event came that goes into the table.
func (s *stream) noteCame(at time.Time) {
	if s.came != nil && s.listed {
		*s.came = at
	}
}

// tellLast tells who watches where the next watch has to begin; false when nobody wants to hear more.
func (s *stream) tellLast() bool {
	if s.last == "" {
		return true
	}
	o := s.kind.DeepCopyObject()
	if m, err := meta.Accessor(o); err == nil {
		m.SetResourceVersion(s.last)
	}
	s.last = ""
	return s.send(watch.Event{Type: watch.Bookmark, Object: o})
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
func (s *stream) decoder() (func() (event, error), error) {
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

// decode reads the object of an event.
func (s *stream) decode(verb string, into func(runtime.Object) error) (event, error) {
	var o runtime.Object
	switch watch.EventType(verb) {
	case watch.Added, watch.Modified, watch.Deleted, watch.Bookmark:
		o = s.kind.DeepCopyObject()
	case watch.Error:
		o = &metav1.Status{}
	default:
		return event{}, fmt.Errorf("an event of type %q is none of a watch", verb)
	}
	if err := into(o); err != nil {
		return event{}, fmt.Errorf("decode an object: %w", err)
	}
	e := event{verb: watch.EventType(verb), object: o}
	if m, err := meta.Accessor(o); err == nil {
		e.version = m.GetResourceVersion()
	}
	return e, nil
}

// lines reads events in JSON.
type lines struct {
	*stream
	in *json.Decoder
}

func (l *lines) next() (event, error) {
	var e struct {
		Type   string
		Object json.RawMessage
	}
	if err := l.in.Decode(&e); err != nil {
		return event{}, err
	}
	l.noteCame(l.body.at)
	return l.decode(e.Type, func(o runtime.Object) error { return json.Unmarshal(e.Object, o) })
}

// framed reads events in protobuf: the length of each in four bytes, most significant first, then a
// WatchEvent (k8s.io/apimachinery/pkg/util/framer).
type framed struct {
	*stream
	in    *bufio.Reader
	frame []byte // is used again: nothing decoded points into it
}

func (f *framed) next() (event, error) {
	frame, err := f.nextFrame()
	if err != nil {
		return event{}, err
	}
	verb, body, err := openEvent(frame)
	if err != nil {
		return event{}, err
	}
	if t := watch.EventType(verb); f.listed && f.read != nil && (t == watch.Added || t == watch.Modified || t == watch.Deleted) {
		o, version, err := f.read(body)
		return event{t, o, version}, err
	}
	return f.decode(verb, func(o runtime.Object) error {
		m, ok := o.(interface{ Unmarshal([]byte) error })
		if !ok {
			return fmt.Errorf("%T has no protobuf form", o)
		}
		return m.Unmarshal(body)
	})
}

// nextFrame gives the bytes of an event. They are the next one's, too.
func (f *framed) nextFrame() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return nil, err
	}
	f.noteCame(f.body.at)
	n := binary.BigEndian.Uint32(head[:])
	if n > frameLimit {
		return nil, fmt.Errorf("an event has %d bytes: more than %d", n, frameLimit)
	}
	if cap(f.frame) < int(n) {
		f.frame = make([]byte, n)
	}
	frame := f.frame[:n]
	if _, err := io.ReadFull(f.in, frame); err != nil {
		return nil, err
	}
	if cap(f.frame) > streamBuffer { // one large object shall not cost memory for ever
		f.frame = nil
	}
	return frame, nil
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
