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
