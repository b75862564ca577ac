package proxy

import (
	"net/http"
	"strconv"
	"time"

	"nodelet/internal/model"
)

// patience is how long the kernel may lag behind before health checks fail: two resyncs, as in kube-proxy.
const patience = 2 * defaultResync

// healthAnswer has the fields of kube-proxy's.
type healthAnswer struct {
	LastUpdated time.Time `json:"lastUpdated"`
	CurrentTime time.Time `json:"currentTime"`
	// NodeEligible is only in the answer of /healthz.
	NodeEligible *bool                   `json:"nodeEligible,omitempty"`
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyHealth `json:"status,omitempty"`
	// Error is what the kernel, or whoever is asked, said last; not in kube-proxy's.
	Error string `json:"error,omitempty"`
}

type familyHealth struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// healthHandler answers /healthz, by which load balancers choose nodes, and
// /livez, by which somebody may restart the proxy: a node that is being deleted
// takes no new traffic, but its proxy is well (KEP-3836).
func (p *Proxy) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { p.answer(w, "healthz", true) })
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { p.answer(w, "livez", false) })
	return mux
}

func (p *Proxy) answer(w http.ResponseWriter, name string, asksNode bool) {
	status, now := p.health.Status(), time.Now()
	a := healthAnswer{
		LastUpdated: status.LastSuccess, CurrentTime: now, Healthy: p.healthy(), Error: status.Error,
		Status: map[string]familyHealth{},
	}
	for _, f := range p.families() {
		a.Status[f] = familyHealth{LastUpdated: status.LastSuccess, Healthy: a.Healthy}
	}
	well := a.Healthy
	if asksNode {
		eligible := p.nodeEligible()
		a.NodeEligible, well = &eligible, well && eligible
	}
	code := http.StatusOK
	if !well {
		code = http.StatusServiceUnavailable
	} else {
		a.LastUpdated = now // as kube-proxy says it: recent, when all is well
	}
	if f := p.deps.Metrics.Answered; f != nil {
		f(name, strconv.Itoa(code))
	}
	writeJSON(w, code, a)
}

// healthy: the kernel was programmed, and does not lag behind for too long.
func (p *Proxy) healthy() bool {
	status := p.health.Status()
	return p.state.Load() != nil && (status.FailingSince.IsZero() || time.Since(status.FailingSince) < patience)
}

// nodeEligible: the node is there and not being deleted. Before the nodes are
// known nothing is said against it: then the proxy is not healthy anyway.
func (p *Proxy) nodeEligible() bool {
	nodes := p.deps.Store.Snapshot().Nodes
	n, ok := nodes.Get(model.Key{Name: p.cfg.NodeName})
	return ok && !n.Deleting || !ok && !nodes.Synced()
}

// families names those that are served, as Kubernetes does.
func (p *Proxy) families() []string {
	if p.Choice().IPv6 {
		return []string{"IPv4", "IPv6"}
	}
	return []string{"IPv4"}
}
