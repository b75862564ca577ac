package zpages

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Group is the API group of the structured forms.
const Group = "config.k8s.io"

// header stands above the text of a page, as on upstream.
const header = "\n%s %s\n" +
	"Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"

// Status is what /statusz says of a component.
type Status struct {
	// Component is its name, such as "kube-proxy".
	Component string
	Started   time.Time
	// Version is that of the program, Emulates the Kubernetes version it behaves like ("1.36").
	Version, Emulates string
	// Paths are those that are served, such as "/debug/pprof/heap"; their first parts are shown.
	Paths []string
}

// metadata is what the page needs of an object's.
type metadata struct {
	Name string `json:"name"`
}

type statusz struct {
	Kind             string    `json:"kind"`
	APIVersion       string    `json:"apiVersion"`
	Metadata         metadata  `json:"metadata"`
	StartTime        time.Time `json:"startTime"`
	UptimeSeconds    int64     `json:"uptimeSeconds"`
	GoVersion        string    `json:"goVersion"`
	BinaryVersion    string    `json:"binaryVersion"`
	EmulationVersion string    `json:"emulationVersion,omitempty"`
	Paths            []string  `json:"paths"`
}

type flagz struct {
	Kind       string            `json:"kind"`
	APIVersion string            `json:"apiVersion"`
	Metadata   metadata          `json:"metadata"`
	Flags      map[string]string `json:"flags,omitempty"`
}

// Statusz answers /statusz.
func Statusz(s Status) http.Handler {
	paths := topPaths(s.Paths)
	return page{
		kind: "Statusz",
		text: func() string { return s.text(paths, time.Now()) },
		object: func(apiVersion string) any {
			return statusz{
				Kind: "Statusz", APIVersion: apiVersion, Metadata: metadata{s.Component},
				StartTime: s.Started.UTC().Truncate(time.Second), UptimeSeconds: uptime(s.Started, time.Now()),
				GoVersion: runtime.Version(), BinaryVersion: s.Version, EmulationVersion: s.Emulates, Paths: paths,
			}
		},
	}
}

func (s Status) text(paths []string, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, header, s.Component, "statusz")
	up := uptime(s.Started, now)
	fmt.Fprintf(&b, "\nStarted: %s\nUp: %d hr %02d min %02d sec\n", s.Started.Format(time.UnixDate), up/3600, up/60%60, up%60)
	fmt.Fprintf(&b, "Go version: %s\nBinary version: %s\n", runtime.Version(), s.Version)
	if s.Emulates != "" {
		fmt.Fprintf(&b, "Emulation version: %s\n", s.Emulates)
	}
	if len(paths) > 0 {
		fmt.Fprintf(&b, "Paths: %s\n", strings.Join(paths, " "))
	}
	return b.String()
}

// uptime is in whole seconds, and never negative when the clock was set back.
func uptime(started, now time.Time) int64 {
	return max(0, int64(now.Sub(started).Seconds()))
}

// topPaths gives the first part of each path once, in order.
func topPaths(paths []string) []string {
	out := []string{}
	for _, p := range paths {
		if first, _, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/"); first != "" {
			out = append(out, "/"+first)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Flagz answers /flagz with the values of a component's flags; see [Flags].
func Flagz(component string, flags map[string]string) http.Handler {
	return page{
		kind: "Flagz",
		text: func() string {
			var b strings.Builder
			fmt.Fprintf(&b, header, component, "flagz")
			for _, name := range sortedKeys(flags) {
				fmt.Fprintf(&b, "%s=%s\n", name, flags[name])
			}
			return b.String()
		},
		object: func(apiVersion string) any {
			return flagz{Kind: "Flagz", APIVersion: apiVersion, Metadata: metadata{component}, Flags: flags}
		},
	}
}

// Configz answers /configz: JSON with one configuration by its name
// ("kubeproxy.config.k8s.io", "kubeletconfig"). The configuration must be fit for JSON.
func Configz(name string, config any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data, err := json.Marshal(map[string]any{name: config})
		if err != nil {
			http.Error(w, "encode configuration: "+err.Error(), http.StatusInternalServerError)
			return
		}
		write(w, "application/json", data)
	})
}

// page is one that has a text and a structured form.
type page struct {
	kind   string
	text   func() string
	object func(apiVersion string) any
}

// ServeHTTP answers in the first form of the Accept header that there is.
func (p page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	form, ok := p.negotiate(r.Header.Get("Accept"))
	switch {
	case !ok:
		http.Error(w, fmt.Sprintf("only these are served: text/plain, application/json;g=%[1]s;v=v1beta1;as=%[2]s, application/yaml;g=%[1]s;v=v1beta1;as=%[2]s", Group, p.kind), http.StatusNotAcceptable)
		return
	case form.media == mediaText:
		write(w, mediaText+"; charset=utf-8", []byte(p.text()))
		return
	case form.version == "v1alpha1":
		w.Header().Set("Warning", fmt.Sprintf(`299 - "This version of the %s endpoint is deprecated. Please use a newer version."`, strings.ToLower(p.kind)))
	}
	encode := json.Marshal
	if form.media == mediaYAML {
		encode = yaml.Marshal
	}
	data, err := encode(p.object(Group + "/" + form.version))
	if err != nil {
		http.Error(w, "encode "+p.kind+": "+err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, form.media, data)
}

func write(w http.ResponseWriter, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(data)
}
