package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"nodelet/internal/model"
)

// patience is how long the kernel may lag behind before health checks fail: two resyncs, as in kube-proxy.
const patience = 2 * defaultResync

// healthAnswer has the fields of kube-proxy's.
type healthAnswer struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible bool      `json:"nodeEligible"`
	Error        string    `json:"error,omitempty"`
}

// healthHandler answers /healthz, by which load balancers choose nodes, and
// /livez, by which somebody may restart the proxy: a node that is being deleted
// takes no new traffic, but its proxy is well.
func (p *Proxy) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { p.answer(w, "healthz", true) })
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { p.answer(w, "livez", false) })
	return mux
}

func (p *Proxy) answer(w http.ResponseWriter, name string, asksNode bool) {
	status, now := p.health.Status(), time.Now()
	a := healthAnswer{LastUpdated: status.LastSuccess, CurrentTime: now, NodeEligible: p.nodeEligible(), Error: status.Error}
	well := p.state.Load() != nil && (status.FailingSince.IsZero() || now.Sub(status.FailingSince) < patience)
	code := http.StatusOK
	if !well || asksNode && !a.NodeEligible {
		code = http.StatusServiceUnavailable
	}
	if f := p.deps.Metrics.Answered; f != nil {
		f(name, strconv.Itoa(code))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(a) // the client may be gone
}

// nodeEligible: the node is not being deleted. A node that is not known is taken to be well.
func (p *Proxy) nodeEligible() bool {
	n, ok := p.deps.Store.Snapshot().Nodes.Get(model.Key{Name: p.cfg.NodeName})
	return !ok || !n.Deleting
}
