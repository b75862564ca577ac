package zpages

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func get(t *testing.T, h http.Handler, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestStatuszText(t *testing.T) {
	started := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	s := Status{Component: "kube-proxy", Version: "v1", Emulates: "1.36"}
	s.Started = started
	got := s.text(topPaths([]string{"/metrics", "/debug/pprof/heap", "/debug/flags", "", "/"}), started.Add(26*time.Hour+3*time.Minute+4*time.Second))
	for _, want := range []string{
		"\nkube-proxy statusz\nWarning: This endpoint is not meant to be machine parseable",
		"Started: Wed Mar  4 05:06:07 UTC 2026\n", "Up: 26 hr 03 min 04 sec\n", "Go version: go1.", "Binary version: v1\n",
		"Emulation version: 1.36\n", "Paths: /debug /metrics\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if got := s.text(nil, started.Add(-time.Hour)); !strings.Contains(got, "Up: 0 hr 00 min 00 sec") || strings.Contains(got, "Paths") {
		t.Errorf("with a clock that was set back and no paths:\n%s", got)
	}
}

// Who asks with which Accept header gets which form.
func TestForms(t *testing.T) {
	const jsonBeta = "application/json;g=config.k8s.io;v=v1beta1;as=Statusz"
	h := Statusz(Status{Component: "x", Started: time.Now()})
	for _, c := range []struct {
		accept, contentType string
		code                int
	}{
		{"", "text/plain; charset=utf-8", 200},
		{"*/*", "text/plain; charset=utf-8", 200},
		{"text/html, text/plain;q=0.5", "text/plain; charset=utf-8", 200},
		{jsonBeta, "application/json", 200},
		{"application/yaml;g=config.k8s.io;v=v1beta1;as=Statusz", "application/yaml", 200},
		{"image/png," + jsonBeta + ",text/plain", "application/json", 200},
		{"application/json", "text/plain; charset=utf-8", 406},
		{"application/json;g=config.k8s.io;v=v1beta1;as=Flagz", "text/plain; charset=utf-8", 406},
		{"application/json;g=config.k8s.io;v=v9;as=Statusz", "text/plain; charset=utf-8", 406},
		{"text/plain;as=Statusz", "text/plain; charset=utf-8", 406},
		{";;;", "text/plain; charset=utf-8", 406},
	} {
		w := get(t, h, c.accept)
		if w.Code != c.code || w.Header().Get("Content-Type") != c.contentType {
			t.Errorf("%q: %d %q, want %d %q", c.accept, w.Code, w.Header().Get("Content-Type"), c.code, c.contentType)
		}
		if w.Header().Get("Warning") != "" {
			t.Errorf("%q: a warning", c.accept)
		}
	}
	w := get(t, h, strings.Replace(jsonBeta, "v1beta1", "v1alpha1", 1))
	if !strings.Contains(w.Body.String(), `"apiVersion":"config.k8s.io/v1alpha1"`) || !strings.Contains(w.Header().Get("Warning"), "deprecated") {
		t.Errorf("v1alpha1: %q %s", w.Header().Get("Warning"), w.Body)
	}
}

func TestStructured(t *testing.T) {
	w := get(t, Statusz(Status{Component: "kubelet", Started: time.Now().Add(-time.Minute), Version: "v1", Paths: []string{"/pods"}}), "application/json;v=v1beta1;g=config.k8s.io;as=Statusz")
	var got struct {
		Kind          string
		Metadata      struct{ Name string }
		StartTime     time.Time
		UptimeSeconds int
		Paths         []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "Statusz" || got.Metadata.Name != "kubelet" || got.StartTime.IsZero() || got.UptimeSeconds < 60 || len(got.Paths) != 1 {
		t.Errorf("got %+v", got)
	}
}

// Values are those that the flags have now, secrets are hidden.
func TestFlagz(t *testing.T) {
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	fs.String("b", "default", "")
	fs.String("secret", "s", "")
	fs.Int("a", 1, "")
	if err := fs.SetAnnotation("secret", Classified, []string{"true"}); err != nil {
		t.Fatal(err)
	}
	if err := fs.Parse([]string{"--b=given"}); err != nil {
		t.Fatal(err)
	}
	h := Flagz("kube-proxy", Flags(fs))
	text := get(t, h, "").Body.String()
	if !strings.HasPrefix(text, "\nkube-proxy flagz\nWarning") || !strings.HasSuffix(text, "\na=1\nb=given\nsecret=CLASSIFIED\n") {
		t.Errorf("got %q", text)
	}
	got := get(t, h, "application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz").Body.String()
	want := "apiVersion: config.k8s.io/v1beta1\nflags:\n  a: \"1\"\n  b: given\n  secret: CLASSIFIED\nkind: Flagz\nmetadata:\n  name: kube-proxy\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfigz(t *testing.T) {
	w := get(t, Configz("kubeproxy.config.k8s.io", map[string]string{"mode": "nftables"}), "")
	if got := w.Body.String(); got != `{"kubeproxy.config.k8s.io":{"mode":"nftables"}}` || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %q %q", w.Header().Get("Content-Type"), got)
	}
	if w := get(t, Configz("x", func() {}), ""); w.Code != http.StatusInternalServerError {
		t.Errorf("what is not fit for JSON: %d", w.Code)
	}
}
