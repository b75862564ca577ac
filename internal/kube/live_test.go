package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// recorder is a table that keeps what is done to it.
type recorder struct {
	mu   sync.Mutex
	done []string
	more chan struct{}
	// replacing runs while the table is replaced.
	replacing func()
}

func (r *recorder) note(what string, o any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := o.(*discoveryv1.EndpointSlice); ok {
		what += " " + s.Name + "@" + s.ResourceVersion
	}
	r.done = append(r.done, what)
	select {
	case r.more <- struct{}{}:
	default:
	}
	return nil
}

func (r *recorder) Add(o any) error    { return r.note("add", o) }
func (r *recorder) Update(o any) error { return r.note("update", o) }
func (r *recorder) Delete(o any) error { return r.note("delete", o) }
func (r *recorder) Resync() error      { return nil }

func (r *recorder) Replace(list []any, version string) error {
	if r.replacing != nil {
		r.replacing()
	}
	names := make([]string, len(list))
	for i, o := range list {
		if s, ok := o.(*discoveryv1.EndpointSlice); ok {
			names[i] = s.Name
		}
	}
	slices.Sort(names)
	return r.note("replace "+strings.Join(names, " ")+"@"+version, nil)
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.done, ", ")
}

// until waits until the table has seen so much.
func (r *recorder) until(t *testing.T, want string) {
	t.Helper()
	for r.text() != want {
		select {
		case <-r.more:
		case <-time.After(20 * time.Second):
			t.Fatalf("the table saw %q, want %q", r.text(), want)
		}
	}
}

func at(name, version string) *discoveryv1.EndpointSlice {
	s := sliceNamed(name)
	s.ResourceVersion = version
	return s
}

// listEnd is the bookmark that ends a first list.
func listEnd(version string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		ResourceVersion: version, Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}}
}

// script answers watches, one after the other; the last one stays open.
type script struct {
	t       *testing.T
	mu      sync.Mutex
	asked   []string
	answers []func(http.ResponseWriter)
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.asked)
	ask := "list"
	if r.FormValue("watch") != "" {
		ask = fmt.Sprintf("watch from %q", r.FormValue("resourceVersion"))
	}
	if r.FormValue("sendInitialEvents") != "" {
		ask += " with all"
	}
	s.asked = append(s.asked, ask)
	s.mu.Unlock()
	if n < len(s.answers) {
		s.answers[n](w)
	}
	if n >= len(s.answers)-1 {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func (s *script) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, ", ")
}

// mirrored reflects a script's slices into a table until the test ends.
func mirrored(t *testing.T, s *script, to *recorder) {
	t.Helper()
	server := httptest.NewServer(s)
	c, err := New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		from := source{client: c.groups[discoveryv1.SchemeGroupVersion], resource: "endpointslices"}
		reflect(ctx, &Reflector{Client: c, Log: slog.New(slog.DiscardHandler)}, from, &discoveryv1.EndpointSlice{}, to)
	}()
	t.Cleanup(func() { cancel(); <-done; server.Close() })
}

// TestWatchGoesOnWhereItEnded: what goes by the Reflector is known to it all the same: the next watch
// begins behind the last event, and one that is too old for the server begins anew.
func TestWatchGoesOnWhereItEnded(t *testing.T) {
	s := &script{t: t}
	send := func(frames ...[]byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write(slices.Concat(frames...)) }
	}
	gone := &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Message: "too old", Code: http.StatusGone}
	s.answers = []func(http.ResponseWriter){
		send(wireOf(t, "ADDED", at("a", "5")), wireOf(t, "ADDED", at("b", "6")), wireOf(t, "BOOKMARK", listEnd("10")),
			wireOf(t, "MODIFIED", at("a", "11")), wireOf(t, "DELETED", at("b", "12"))),
		send(wireOf(t, "ADDED", at("c", "13")), wireOf(t, "BOOKMARK", at("", "17"))),
		send(wireOf(t, "ADDED", at("d", "18")), wireOf(t, "ERROR", gone)),
		send(wireOf(t, "ADDED", at("e", "20")), wireOf(t, "BOOKMARK", listEnd("21")), wireOf(t, "ADDED", at("f", "22"))),
	}
	to := &recorder{more: make(chan struct{}, 1)}
	mirrored(t, s, to)
	to.until(t, "replace a b@10, add a@11, delete b@12, add c@13, add d@18, replace e@21, add f@22")
	const asked = `watch from "" with all, watch from "12", watch from "17", watch from "18" with all`
	if got := s.text(); got != asked {
		t.Errorf("asked for %s\nwant      %s", got, asked)
	}
}

// TestListComesBeforeItsChanges: an event that comes together with a list waits until the list is in the table.
func TestListComesBeforeItsChanges(t *testing.T) {
	s := &script{t: t}
	s.answers = []func(http.ResponseWriter){func(w http.ResponseWriter) {
		_, _ = w.Write(slices.Concat(wireOf(t, "ADDED", at("a", "5")), wireOf(t, "BOOKMARK", listEnd("10")), wireOf(t, "MODIFIED", at("a", "11"))))
	}}
	to := &recorder{more: make(chan struct{}, 1)}
	to.replacing = func() {
		for range 1000 { // whoever can run, runs
			goruntime.Gosched()
		}
	}
	mirrored(t, s, to)
	to.until(t, "replace a@10, add a@11")
}

// TestNothingAfterStop: once a watch is stopped, the table is another's to write.
func TestNothingAfterStop(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 1; r.Context().Err() == nil; i++ {
			_, _ = w.Write(wireOf(t, "MODIFIED", at("a", fmt.Sprint(i))))
		}
	}))
	defer server.Close()
	c, err := New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	to := &recorder{more: make(chan struct{}, 1)}
	req := c.groups[discoveryv1.SchemeGroupVersion].Get().Resource("endpointslices")
	w, err := openStream(context.Background(), req, target{kind: &discoveryv1.EndpointSlice{}, table: to, listed: true})
	if err != nil {
		t.Fatal(err)
	}
	<-to.more
	w.Stop()
	before := to.text()
	for range 1000 {
		goruntime.Gosched()
	}
	if after := to.text(); after != before {
		t.Errorf("%d bytes were noted after the watch was stopped", len(after)-len(before))
	}
}
