package control

import (
	"time"

	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Status is the state of the daemon at one moment.
type Status struct {
	APIVersion string    `json:"apiVersion"` // nodelet.dev/v1
	Kind       string    `json:"kind"`       // Status
	Version    string    `json:"version"`
	Node       string    `json:"node"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Runtime    string    `json:"runtime"`
	APIServer  string    `json:"apiServer"`
	// APIProblem says why the API server cannot be used, and since when.
	APIProblem string                      `json:"apiProblem,omitempty"`
	NodeReady  bool                        `json:"nodeReady"`
	Loops      map[string]reconcile.Status `json:"loops"`
	Revisions  Revisions                   `json:"revisions"`
	Tables     map[string]int              `json:"tables"`
}

// Revisions tells the store's revision and which one each feature has in the kernel.
type Revisions struct {
	Store   store.Revision                   `json:"store"`
	Applied map[store.Feature]store.Revision `json:"applied"`
}

// Image is one image of the runtime.
type Image struct {
	Names []string `json:"names"`
	ID    string   `json:"id"`
	Bytes uint64   `json:"bytes"`
}

// Service is one way to reach one port of a service, as the proxy has it.
type Service struct {
	Service string `json:"service"`
	Port    string `json:"port"`
	// Kind is ClusterIP, NodePort, LoadBalancer or ExternalIP.
	Kind      string `json:"kind"`
	Frontend  string `json:"frontend"`
	Endpoints int    `json:"endpoints"`
	Notes     string `json:"notes,omitempty"`
}

// Endpoint is one back end of a service port, in use or not.
type Endpoint struct {
	Service  string `json:"service"`
	Port     string `json:"port"`
	Endpoint string `json:"endpoint"`
	Used     bool   `json:"used"`
	// Reason says why it is in use or not.
	Reason string `json:"reason"`
	Pod    string `json:"pod,omitempty"`
	Node   string `json:"node,omitempty"`
}
