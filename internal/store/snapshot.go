package store

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/internal/model"
)

// Snapshot is everything the daemon knows at one revision. Immutable.
type Snapshot struct {
	Revision Revision

	// From the API server.
	Pods     Table[model.UID, *corev1.Pod] // the pods assigned to this node, and the node's own (static ones)
	Mirrors  Table[model.UID, *corev1.Pod] // the API's images of this node's static pods
	Services Table[model.Key, *model.Service]
	Slices   Table[model.Key, *model.Slice]
	Nodes    Table[model.Key, *model.Node]          // all nodes, keyed by name
	Configs  Table[model.ConfigKey, *model.Config]  // those that pods of this node refer to
	Claims   Table[model.Key, *model.Claim]         // likewise
	Drivers  Table[model.Key, *storagev1.CSIDriver] // keyed by name
	Classes  Table[model.Key, *model.RuntimeClass]  // keyed by name
	// TrustBundles is asked for once a pod of this node wants one.
	TrustBundles Table[model.Key, *model.TrustBundle] // keyed by name
	// Namespaces stays unsynced where the API does not let us list them.
	Namespaces Table[model.Key, *model.Namespace] // keyed by name
	PodAddrs   Table[model.Key, *model.PodAddr]   // all pods of the cluster, only when something asks for them
	// ServiceCIDRs stays unsynced where the API does not serve the kind, or not to us.
	ServiceCIDRs Table[model.Key, *model.ServiceCIDR] // keyed by name

	// Observed on this node.
	Runtime Table[model.UID, *model.PodRuntime]
	Images  Table[model.ImageRef, *model.Image] // those that somebody asked for
	Volumes Table[model.UID, *model.PodVolumes]
	Probes  Table[model.ProbeKey, *model.Probe]
	// Prepared is what drivers of dynamic resources have prepared for pods with ResourceClaims.
	Prepared Table[model.UID, *model.PodDevices]

	// Decided on this node.
	Allocations Table[model.UID, *model.Allocation] // which pods are taken, with which resources
	Evictions   Table[model.UID, *model.Eviction]   // pods that have to go
	Grants      Table[model.UID, *model.Grant]      // what pods have to themselves: devices, CPUs

	// Applied says for each feature which revision its kernel objects hold.
	Applied map[Feature]Revision

	changed chan struct{}
}

// Feature is a part of the daemon that programs the kernel from snapshots.
type Feature string

// The features that report an applied revision.
const (
	Proxy  Feature = "proxy"
	DNS    Feature = "dns"
	CNI    Feature = "cni"
	Policy Feature = "policy"
)

// Changed is closed as soon as there is a newer snapshot.
func (s *Snapshot) Changed() <-chan struct{} { return s.changed }

// Writers are the write ends of all tables. Wiring hands each to the one part
// that observes those facts.
type Writers struct {
	// Pods has two writers, each of its own rows: internal/kube of the API's pods, agent/static of the
	// static ones (podref.IsStatic). Only the first says that the table is synced.
	Pods         *Writer[model.UID, *corev1.Pod]
	Mirrors      *Writer[model.UID, *corev1.Pod]
	Services     *Writer[model.Key, *model.Service]
	Slices       *Writer[model.Key, *model.Slice]
	Nodes        *Writer[model.Key, *model.Node]
	Configs      *Writer[model.ConfigKey, *model.Config]
	Claims       *Writer[model.Key, *model.Claim]
	Drivers      *Writer[model.Key, *storagev1.CSIDriver]
	Classes      *Writer[model.Key, *model.RuntimeClass]
	TrustBundles *Writer[model.Key, *model.TrustBundle]
	Namespaces   *Writer[model.Key, *model.Namespace]
	PodAddrs     *Writer[model.Key, *model.PodAddr]
	ServiceCIDRs *Writer[model.Key, *model.ServiceCIDR]
	Runtime      *Writer[model.UID, *model.PodRuntime]
	Images       *Writer[model.ImageRef, *model.Image]
	Volumes      *Writer[model.UID, *model.PodVolumes]
	Probes       *Writer[model.ProbeKey, *model.Probe]
	Prepared     *Writer[model.UID, *model.PodDevices]

	Allocations *Writer[model.UID, *model.Allocation]
	Evictions   *Writer[model.UID, *model.Eviction]
	Grants      *Writer[model.UID, *model.Grant]
}

func empty() *Snapshot {
	return &Snapshot{
		Revision: 1,
		Pods:     newTable[model.UID](samePod),
		Mirrors:  newTable[model.UID](samePod),
		Services: newTable[model.Key](func(a, b *model.Service) bool {
			return a.ResourceVersion == b.ResourceVersion && a.ResourceVersion != ""
		}),
		Slices: newTable[model.Key](func(a, b *model.Slice) bool {
			return a.ResourceVersion == b.ResourceVersion && a.ResourceVersion != ""
		}),
		Nodes: newTable[model.Key](sameNode),
		Configs: newTable[model.ConfigKey](func(a, b *model.Config) bool {
			return a.Missing == b.Missing && a.ResourceVersion == b.ResourceVersion && (a.Missing || a.ResourceVersion != "")
		}),
		Claims:       newTable[model.Key](sameClaim),
		Drivers:      newTable[model.Key](func(a, b *storagev1.CSIDriver) bool { return version(a) == version(b) }),
		Classes:      newTable[model.Key](func(a, b *model.RuntimeClass) bool { return *a == *b }),
		TrustBundles: newTable[model.Key]((*model.TrustBundle).Equal),
		Namespaces:   newTable[model.Key](sameNamespace),
		PodAddrs:     newTable[model.Key](func(a, b *model.PodAddr) bool { return slices.Equal(a.IPs, b.IPs) }),
		ServiceCIDRs: newTable[model.Key](func(a, b *model.ServiceCIDR) bool { return slices.Equal(a.CIDRs, b.CIDRs) }),
		Runtime:      newTable[model.UID](sameRuntime),
		Images:       newTable[model.ImageRef](func(a, b *model.Image) bool { return reflect.DeepEqual(a, b) }),
		Volumes:      newTable[model.UID](sameVolumes),
		Probes:       newTable[model.ProbeKey](func(a, b *model.Probe) bool { return *a == *b }),
		Prepared:     newTable[model.UID](func(a, b *model.PodDevices) bool { return reflect.DeepEqual(a, b) }),
		Allocations:  newTable[model.UID](func(a, b *model.Allocation) bool { return reflect.DeepEqual(a, b) }),
		Evictions:    newTable[model.UID](func(a, b *model.Eviction) bool { return *a == *b }),
		Grants:       newTable[model.UID](func(a, b *model.Grant) bool { return reflect.DeepEqual(a, b) }),
		Applied:      map[Feature]Revision{},
		changed:      make(chan struct{}),
	}
}

func writers(s *Store) *Writers {
	return &Writers{
		Pods:         newWriter(s, func(n *Snapshot) *Table[model.UID, *corev1.Pod] { return &n.Pods }),
		Mirrors:      newWriter(s, func(n *Snapshot) *Table[model.UID, *corev1.Pod] { return &n.Mirrors }),
		Services:     newWriter(s, func(n *Snapshot) *Table[model.Key, *model.Service] { return &n.Services }),
		Slices:       newWriter(s, func(n *Snapshot) *Table[model.Key, *model.Slice] { return &n.Slices }),
		Nodes:        newWriter(s, func(n *Snapshot) *Table[model.Key, *model.Node] { return &n.Nodes }),
		Configs:      newWriter(s, func(n *Snapshot) *Table[model.ConfigKey, *model.Config] { return &n.Configs }),
		Claims:       newWriter(s, func(n *Snapshot) *Table[model.Key, *model.Claim] { return &n.Claims }),
		Drivers:      newWriter(s, func(n *Snapshot) *Table[model.Key, *storagev1.CSIDriver] { return &n.Drivers }),
		Classes:      newWriter(s, func(n *Snapshot) *Table[model.Key, *model.RuntimeClass] { return &n.Classes }),
		TrustBundles: newWriter(s, func(n *Snapshot) *Table[model.Key, *model.TrustBundle] { return &n.TrustBundles }),
		Namespaces:   newWriter(s, func(n *Snapshot) *Table[model.Key, *model.Namespace] { return &n.Namespaces }),
		PodAddrs:     newWriter(s, func(n *Snapshot) *Table[model.Key, *model.PodAddr] { return &n.PodAddrs }),
		ServiceCIDRs: newWriter(s, func(n *Snapshot) *Table[model.Key, *model.ServiceCIDR] { return &n.ServiceCIDRs }),
		Runtime:      newWriter(s, func(n *Snapshot) *Table[model.UID, *model.PodRuntime] { return &n.Runtime }),
		Images:       newWriter(s, func(n *Snapshot) *Table[model.ImageRef, *model.Image] { return &n.Images }),
		Volumes:      newWriter(s, func(n *Snapshot) *Table[model.UID, *model.PodVolumes] { return &n.Volumes }),
		Probes:       newWriter(s, func(n *Snapshot) *Table[model.ProbeKey, *model.Probe] { return &n.Probes }),
		Prepared:     newWriter(s, func(n *Snapshot) *Table[model.UID, *model.PodDevices] { return &n.Prepared }),
		Allocations:  newWriter(s, func(n *Snapshot) *Table[model.UID, *model.Allocation] { return &n.Allocations }),
		Evictions:    newWriter(s, func(n *Snapshot) *Table[model.UID, *model.Eviction] { return &n.Evictions }),
		Grants:       newWriter(s, func(n *Snapshot) *Table[model.UID, *model.Grant] { return &n.Grants }),
	}
}
