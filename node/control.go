package node

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"nodelet/internal/control"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
	"nodelet/internal/version"
)

// api is what the CLI can ask of the daemon.
func (n *Node) api() control.API {
	return control.API{
		Status: n.status, Revisions: func() control.Revisions { return revisions(n.store.Snapshot()) },
		Proxy:       func() (any, error) { return n.proxyStatus() },
		SwitchProxy: func(ctx context.Context, mode string) (any, error) { return n.switchProxy(ctx, mode) },
		Counters:    func(filter string) (any, error) { return n.serviceCounts(filter) },
		Services:    n.listServices, Endpoints: n.listEndpoints, Snapshot: n.dump, Explain: n.explain,
		Timeline: n.podTimeline,
		DNSWhy:   n.dnsWhy,
		ListImages: func(ctx context.Context) ([]control.Image, error) {
			if r := n.runtime.Load(); r != nil {
				return r.listImages(ctx)
			}
			return nil, errNoRuntime
		},
		ImportImages: func(ctx context.Context, archive io.Reader) ([]string, error) {
			if r := n.runtime.Load(); r != nil {
				return r.importImages(ctx, archive)
			}
			return nil, errNoRuntime
		},
	}
}

func revisions(s *store.Snapshot) control.Revisions {
	return control.Revisions{Store: s.Revision, Applied: s.Applied}
}

func (n *Node) status() control.Status {
	snap := n.store.Snapshot()
	st := control.Status{
		APIVersion: "nodelet.dev/v1", Kind: "Status", Version: version.Version,
		Node: n.cfg.NodeName, PID: os.Getpid(), Started: n.started,
		Runtime: "not up", APIServer: n.client.Host(),
		Loops: map[string]reconcile.Status{}, Revisions: revisions(snap),
		Tables: map[string]int{
			"pods": snap.Pods.Len(), "services": snap.Services.Len(), "slices": snap.Slices.Len(), "nodes": snap.Nodes.Len(),
			"configs": snap.Configs.Len(), "namespaces": snap.Namespaces.Len(), "runtime": snap.Runtime.Len(), "images": snap.Images.Len(),
			"volumes": snap.Volumes.Len(), "probes": snap.Probes.Len(),
		},
	}
	if r := n.runtime.Load(); r != nil {
		st.Runtime = r.Endpoint()
	}
	if since, reason := n.contact.Lost(); !since.IsZero() {
		st.APIProblem = fmt.Sprintf("since %s: %s", since.Format(time.RFC3339), reason)
	}
	if node, ok := self(snap, n.cfg.NodeName); ok {
		st.NodeReady = node.Ready
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, status := range n.loops {
		st.Loops[name] = status()
	}
	return st
}

// dump gives one table of the store for debugging. Configs are left out: they hold secrets.
func (n *Node) dump(table string) (any, error) {
	s := n.store.Snapshot()
	switch table {
	case "pods":
		return values(s.Pods), nil
	case "mirrors":
		return values(s.Mirrors), nil
	case "services":
		return values(s.Services), nil
	case "slices":
		return values(s.Slices), nil
	case "nodes":
		return values(s.Nodes), nil
	case "namespaces":
		return values(s.Namespaces), nil
	case "servicecidrs":
		return values(s.ServiceCIDRs), nil
	case "runtime":
		return values(s.Runtime), nil
	case "images":
		return values(s.Images), nil
	case "volumes":
		return values(s.Volumes), nil
	case "probes":
		return values(s.Probes), nil
	}
	return nil, fmt.Errorf("no table %q: pods, mirrors, services, slices, nodes, namespaces, servicecidrs, runtime, images, volumes or probes", table)
}

func values[K store.Key, V any](t store.Table[K, V]) []V {
	out := make([]V, 0, t.Len())
	for _, v := range t.All() {
		out = append(out, v)
	}
	return out
}
