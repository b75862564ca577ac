package kube

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/internal/stubapi"
)

// wireOf is an event in protobuf, made by upstream's encoders, in its frame.
func wireOf(t testing.TB, verb string, o interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	marshal := func(o interface{ Marshal() ([]byte, error) }) []byte {
		b, err := o.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	unknown := &runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, Raw: marshal(o)}
	event := &metav1.WatchEvent{Type: verb, Object: runtime.RawExtension{Raw: append([]byte(protobufMagic), marshal(unknown)...)}}
	b := marshal(event)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func lineOf(t testing.TB, verb string, o any) []byte {
	t.Helper()
	object, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(map[string]any{"type": verb, "object": json.RawMessage(object)})
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func sliceNamed(name string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}}, AddressType: discoveryv1.AddressTypeIPv4,
	}
}

// watchOf serves a body as the answer to a watch, and gives its events until it ends.
func watchOf(t *testing.T, body []byte) (got []string, objects []runtime.Object) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer server.Close()
	c, err := New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	req := c.groups[discoveryv1.SchemeGroupVersion].Get().Resource("endpointslices")
	w, err := openStream(context.Background(), req, target{kind: &discoveryv1.EndpointSlice{}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		text := string(e.Type)
		switch o := e.Object.(type) {
		case *discoveryv1.EndpointSlice:
			text += " " + o.Name
		case *metav1.Status:
			text += " " + o.Message
		}
		got, objects = append(got, text), append(objects, e.Object)
	}
	return got, objects
}

// TestStream: events come as they were sent, in whichever format, and what is no event ends the watch
// with an error that says so. A connection that ends is no error.
func TestStream(t *testing.T) {
	gone := &metav1.Status{Message: "too old", Code: http.StatusGone}
	frames := bytes.Join([][]byte{
		wireOf(t, "ADDED", sliceNamed("a")), wireOf(t, "MODIFIED", sliceNamed("a")), wireOf(t, "BOOKMARK", &discoveryv1.EndpointSlice{}),
		wireOf(t, "DELETED", sliceNamed("a")), wireOf(t, "ERROR", gone),
	}, nil)
	lines := bytes.Join([][]byte{
		lineOf(t, "ADDED", sliceNamed("a")), lineOf(t, "MODIFIED", sliceNamed("a")), lineOf(t, "BOOKMARK", &discoveryv1.EndpointSlice{}),
		lineOf(t, "DELETED", sliceNamed("a")), lineOf(t, "ERROR", gone),
	}, nil)
	const all = "ADDED a, MODIFIED a, BOOKMARK , DELETED a, ERROR too old"
	const broken = "ERROR unable to decode an event from the watch stream: "
	for _, tt := range []struct {
		name string
		body []byte
		want string
	}{
		{"frames", frames, all},
		{"lines", lines, all},
		{"nothing", nil, ""},
		{"a cut frame", frames[:len(frames)-3], strings.TrimSuffix(all, ", ERROR too old")},
		{"a cut line", lines[:len(lines)-9], strings.TrimSuffix(all, ", ERROR too old")},
		{"a frame without end", []byte{0, 0xff, 0xff, 0xff, 1}, ""},
		{"a frame of something else", []byte{0, 0, 0, 2, 0x0a, 0}, broken},
		{"too long a frame", []byte{1, 0, 0, 1}, broken},
		{"a verb of nobody", wireOf(t, "PATCHED", sliceNamed("a")), broken},
		{"lines of something else", []byte("<html>"), broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, objects := watchOf(t, tt.body)
			text := strings.Join(got, ", ")
			if tt.want == broken && !strings.HasPrefix(text, "ERROR ") || tt.want != broken && text != tt.want {
				t.Errorf("events %q, want %q", text, tt.want)
			}
			if tt.want == all && objects[0].(*discoveryv1.EndpointSlice).Endpoints[0].Addresses[0] != "10.0.0.1" {
				t.Errorf("the object lost its content: %v", objects[0])
			}
		})
	}
}

// TestArrival: what a watch brings has the time at which it came, and what a list brought has that time
// too or none, never one of the future or of another object.
func TestArrival(t *testing.T) {
	api, err := stubapi.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	c, err := New(&rest.Config{Host: api.URL()})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Put(sliceNamed("first")); err != nil {
		t.Fatal(err)
	}
	s, w := store.New()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&Reflector{Client: c, Store: s, Writers: w}).Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	wait := func(name string) *model.Slice {
		for {
			snap := s.Snapshot()
			if sl, ok := snap.Slices.Get(model.Key{Namespace: "d", Name: name}); ok && snap.Slices.Synced() {
				return sl
			}
			select {
			case <-snap.Changed():
			case <-time.After(10 * time.Second):
				t.Fatalf("slice %s does not come", name)
			}
		}
	}
	wait("first")
	for _, name := range []string{"second", "third"} {
		before := time.Now()
		if err := api.Put(sliceNamed(name)); err != nil {
			t.Fatal(err)
		}
		if at := wait(name).Arrived; at.Before(before) || at.After(time.Now()) {
			t.Errorf("slice %s arrived at %s, was put at %s", name, at, before)
		}
	}
}

// FuzzOpenEvent: nothing that comes makes it panic, and what upstream's encoders write is read as it was written.
func FuzzOpenEvent(f *testing.F) {
	f.Add("ADDED", []byte{10, 1, 2}, wireOf(f, "ADDED", sliceNamed("a"))[4:])
	f.Add("", []byte{}, []byte{0x80})
	f.Add("BOOKMARK", []byte("x"), []byte{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, verb string, body, raw []byte) {
		_, _, _ = openEvent(raw)
		gotVerb, gotBody, err := openEvent(wireOf(t, verb, bytesOf(body))[4:])
		if err != nil || gotVerb != verb || !bytes.Equal(gotBody, body) {
			t.Errorf("%q %x came out as %q %x, %v", verb, body, gotVerb, gotBody, err)
		}
	})
}

type bytesOf []byte

func (b bytesOf) Marshal() ([]byte, error) { return b, nil }

// BenchmarkStream is the way of an EndpointSlice from the frame to the table's row: by way of the object, as
// in a first list, and from the bytes.
func BenchmarkStream(b *testing.B) {
	frame := wireOf(b, "MODIFIED", sliceNamed("a"))
	shared, came := newNames(), new(time.Time)
	for name, read := range map[string]func([]byte) (any, string, error){"object": nil, "bytes": shared.wireSliceFrom(came)} {
		b.Run(name, func(b *testing.B) {
			in := io.Reader(&repeated{b: frame})
			s := &stream{target: target{kind: &discoveryv1.EndpointSlice{}, listed: true, read: read, came: came}, body: &arriving{ReadCloser: io.NopCloser(in)}}
			next, err := s.decoder()
			if err != nil {
				b.Fatal(err)
			}
			sink := tableSink[model.Key, *model.Slice]{convert: shared.slice}
			b.ReportAllocs()
			for b.Loop() {
				if e, err := next(); err != nil || e.verb != watch.Modified || !sink.rowOf(e.object).keep {
					b.Fatal(e, err)
				}
			}
		})
	}
}

// repeated gives the same bytes again and again.
type repeated struct {
	b  []byte
	at int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}
