package server

import (
	"net/http"
	"regexp"
	"strings"
)

// kind is what a request is for.
type kind uint8

// The kinds of requests.
const (
	kindUnknown kind = iota
	kindHealth
	kindPods
	kindRunningPods
	kindLogs
	kindExec
	kindAttach
	kindPortForward
	kindRun
	kindSummary
	kindMetrics
	kindMetricsProbes
	kindMetricsResource
	kindMetricsCadvisor
	kindConfigz
	kindSystemLogs
	kindProfile
	kindStatusz
	kindFlagz
	kindVerbosity
	kinds // their number
)

// String is the label of a kind in metrics, as upstream's.
func (k kind) String() string {
	return [...]string{"other", "healthz", "pods", "runningpods", "containerLogs", "exec", "attach", "portForward", "run",
		"stats", "metrics", "metrics/probes", "metrics/resource", "metrics/cadvisor", "configz", "logs", "debug", "statusz", "flagz", "debug/flags/v"}[k]
}

// stream tells whether an answer may go on for as long as the client likes.
func (k kind) stream() bool {
	return k == kindLogs || k.intoContainer() && k != kindRun
}

// intoContainer tells whether a request gives a way into a container.
func (k kind) intoContainer() bool {
	return k == kindExec || k == kindAttach || k == kindPortForward || k == kindRun
}

// request is a request in normal form: authorisation and handlers see this, never the raw path.
type request struct {
	kind kind
	// verb is that of the API; subresources of nodes, any of which may be allowed.
	verb         string
	subresources []string

	namespace, pod, uid, container string
	// rest is what follows the path of a kind that has files below it, or names of checks.
	rest string
}

// String is one line for logs.
func (r request) String() string {
	s := r.verb + " " + r.kind.String()
	if r.pod != "" {
		s += " " + r.namespace + "/" + r.pod + " " + r.container
	}
	return s
}

// verbs are those of the API for each HTTP method. Other methods mean nothing to the kubelet API.
var verbs = map[string]string{
	http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

func methodLabel(method string) string {
	if _, ok := verbs[method]; ok {
		return method
	}
	return "other"
}

// name is a namespace, pod, container or UID: DNS names and UUIDs. A static pod's UID has letters and digits.
var name = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$`)

// parse brings a request into normal form. The status is 200, or says why there is none: 404 and 405
// come with the verb and subresource that must be allowed before anybody is told.
func parse(r *http.Request) (request, int) {
	req := request{verb: verbs[r.Method], subresources: []string{"proxy"}}
	if len(r.RequestURI) > maxURL {
		return req, http.StatusRequestURITooLong
	}
	path := r.URL.Path
	// Nothing that is served needs a percent sign or two slashes: whatever decodes in more than one
	// way, or to something else than it looks like, is refused before anybody can read it differently.
	if r.URL.RawPath != "" || !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "%\\\x00;") || strings.Contains(path, "//") {
		return req, http.StatusBadRequest
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return req, http.StatusBadRequest
		}
	}
	if req.verb == "" {
		return req, http.StatusMethodNotAllowed
	}
	known := req.route(path)
	req.subresources = req.kind.subresources()
	if req.kind.intoContainer() {
		req.verb = "create"
	}
	switch {
	case !known:
		return req, http.StatusNotFound
	case !req.kind.allows(r.Method):
		return req, http.StatusMethodNotAllowed
	}
	return req, http.StatusOK
}

// subresources of nodes that a kind needs one of, as upstream has them.
func (k kind) subresources() []string {
	switch k {
	case kindHealth:
		return []string{"healthz", "proxy"}
	case kindPods, kindRunningPods:
		return []string{"pods", "proxy"}
	case kindConfigz:
		return []string{"configz", "proxy"}
	case kindFlagz:
		return []string{"configz"}
	case kindStatusz:
		// Upstream asks for statusz alone, which its own role system:kubelet-api-admin, that of API
		// servers, does not have in v1.36: whoever may do anything may see this as well.
		return []string{"statusz", "proxy"}
	case kindSummary:
		return []string{"stats"}
	case kindMetrics, kindMetricsProbes, kindMetricsResource, kindMetricsCadvisor:
		return []string{"metrics"}
	case kindSystemLogs:
		return []string{"log"}
	}
	return []string{"proxy"}
}

func (k kind) allows(method string) bool {
	switch k {
	case kindExec, kindAttach, kindPortForward:
		return method == http.MethodGet || method == http.MethodPost
	case kindRun:
		return method == http.MethodPost
	case kindVerbosity:
		return method == http.MethodPut
	}
	return method == http.MethodGet
}

// fixed are the paths that stand for themselves. The collectors of upstream use some with and some
// without a slash at the end.
var fixed = map[string]kind{
	"/healthz": kindHealth, "/pods": kindPods, "/runningpods": kindRunningPods,
	"/stats/summary": kindSummary, "/metrics": kindMetrics, "/metrics/probes": kindMetricsProbes,
	"/metrics/resource": kindMetricsResource, "/metrics/cadvisor": kindMetricsCadvisor, "/configz": kindConfigz,
	"/logs": kindSystemLogs, "/debug/pprof": kindProfile, "/statusz": kindStatusz, "/flagz": kindFlagz,
	"/debug/flags/v": kindVerbosity,
}

// below are the paths that have others below them.
var below = map[string]kind{"/healthz/": kindHealth, "/logs/": kindSystemLogs, "/debug/pprof/": kindProfile}

// perPod are the paths that name a pod: /KIND/NAMESPACE/POD[/UID]/CONTAINER.
var perPod = map[string]kind{
	"containerLogs": kindLogs, "exec": kindExec, "attach": kindAttach, "portForward": kindPortForward, "run": kindRun,
}

// route finds out what a path is for; false when nothing is there. The kind is set as soon as the
// first part of the path tells it, so that a malformed one needs the same right as a good one.
func (r *request) route(path string) bool {
	if k, ok := fixed[strings.TrimSuffix(path, "/")]; ok {
		r.kind = k
		return true
	}
	for prefix, k := range below {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			r.kind, r.rest = k, rest
			return true
		}
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	k, ok := perPod[parts[0]]
	switch {
	case ok:
		r.kind = k
		return r.routePod(parts[1:])
	case parts[0] == "stats":
		r.kind = kindSummary
	case parts[0] == "metrics":
		r.kind = kindMetrics
	}
	return false
}

// routePod reads namespace, pod, UID and container.
func (r *request) routePod(parts []string) bool {
	for _, p := range parts {
		if !name.MatchString(p) {
			return false
		}
	}
	n := len(parts)
	if r.kind == kindPortForward {
		if n != 2 && n != 3 {
			return false
		}
		r.namespace, r.pod = parts[0], parts[1]
		if n == 3 {
			r.uid = parts[2]
		}
		return true
	}
	if n != 3 && (n != 4 || r.kind == kindLogs) {
		return false
	}
	r.namespace, r.pod, r.container = parts[0], parts[1], parts[n-1]
	if n == 4 {
		r.uid = parts[2]
	}
	return true
}
