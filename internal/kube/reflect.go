package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// retry is the wait between attempts to list or watch. It starts short and
// grows slowly, because in the all-in-one the API server, and then its rules
// of who may read what, are a second or two younger than the node: the wait
// reaches half a second after three seconds, and its bound after thirty.
func retry() *wait.Backoff {
	return &wait.Backoff{Duration: 50 * time.Millisecond, Factor: 1.2, Jitter: 0.2, Steps: 40, Cap: 5 * time.Second}
}

// Reflector keeps the tables that come from the API in step with it.
type Reflector struct {
	Client *Client
	Log    *slog.Logger
	// Node is the name of this node: only its pods are watched.
	Node string
	// Store and Writers: Pods, Configs, Claims, Drivers and TrustBundles are reflected only when Agent is set.
	Store   *store.Store
	Writers *store.Writers
	Agent   bool
	// Always are ConfigMaps and Secrets that are watched whatever the pods refer to.
	Always []model.ConfigKey
	// PodAddrs: the addresses of all pods of the cluster are reflected too.
	PodAddrs bool
	// ServiceCIDRs: the ranges of cluster IPs are reflected too.
	ServiceCIDRs bool
	// Contact tells about the connection; may be nil.
	Contact *Contact
}

// Run reflects until ctx ends.
func (r *Reflector) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	shared := newNames()
	core, discovery := r.Client.core(), r.Client.groups[discoveryv1.SchemeGroupVersion]
	wg.Go(func() {
		reflect(ctx, r, source{client: core, resource: "services"}, &corev1.Service{}, sink(r.Writers.Services, shared.service))
	})
	wg.Go(func() {
		came := new(time.Time)
		slices := source{client: discovery, resource: "endpointslices", came: came, read: shared.wireSliceFrom(came)}
		reflect(ctx, r, slices, &discoveryv1.EndpointSlice{}, sink(r.Writers.Slices, shared.sliceFrom(came)))
	})
	wg.Go(func() {
		reflect(ctx, r, source{client: core, resource: "nodes"}, &corev1.Node{}, sink(r.Writers.Nodes, nodeOf))
	})
	r.reflectNamespaces(ctx, &wg)
	r.reflectServiceCIDRs(ctx, &wg)
	if r.Agent {
		mine := fields.OneTermEqualSelector("spec.nodeName", r.Node)
		wg.Go(func() {
			reflect(ctx, r, source{client: core, resource: "pods", selector: mine}, &corev1.Pod{}, podSink{r.Writers.Pods, r.Writers.Mirrors})
		})
	}
	if r.Agent {
		classes := source{client: r.Client.groups[nodev1.SchemeGroupVersion], resource: "runtimeclasses"}
		wg.Go(func() { reflect(ctx, r, classes, &nodev1.RuntimeClass{}, sink(r.Writers.Classes, classOf)) })
	}
	if r.Agent || len(r.Always) > 0 {
		wg.Go(func() { r.reflectConfigs(ctx) })
		wg.Go(func() { r.reflectClaims(ctx) })
		wg.Go(func() { r.reflectTrustBundles(ctx) })
		wg.Go(func() {
			reflect(ctx, r, source{client: r.Client.storage(), resource: "csidrivers"}, &storagev1.CSIDriver{}, sink(r.Writers.Drivers, driverOf))
		})
	}
	wg.Wait()
	return nil
}

// source names what to list and watch.
type source struct {
	client    *rest.RESTClient
	resource  string
	namespace string
	selector  fields.Selector
	// came is when the event came that is put into the table; nil where nobody asks.
	came *time.Time
	// retry is the wait between attempts; nil is the common one.
	retry func() *wait.Backoff
	// read is that of a target.
	read func([]byte) (any, string, error)
}

func (s source) String() string {
	if s.selector == nil {
		return s.resource
	}
	return fmt.Sprintf("%s %s (%s)", s.resource, s.namespace, s.selector)
}

// reflect lists and watches one source into one table until ctx ends.
func reflect(ctx context.Context, r *Reflector, s source, object runtime.Object, to cache.ReflectorStore) {
	request := func(o metav1.ListOptions) *rest.Request {
		if s.selector != nil {
			o.FieldSelector = s.selector.String()
		}
		return s.client.Get().Namespace(s.namespace).Resource(s.resource).VersionedParams(&o, r.Client.params)
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := request(o).Do(ctx).Get()
			r.Contact.note(s.String(), err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			req := request(o)
			if o.TimeoutSeconds != nil {
				req = req.Timeout(time.Duration(*o.TimeoutSeconds) * time.Second)
			}
			// A watch from no version begins with what there is, as if it were new.
			listed := o.SendInitialEvents == nil && o.ResourceVersion != "" && o.ResourceVersion != "0"
			w, err := openStream(ctx, req, target{kind: object, table: to, listed: listed, read: s.read, came: s.came})
			r.Contact.note(s.String(), err)
			return w, err
		},
	}
	backoff := retry
	if s.retry != nil {
		backoff = s.retry
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, r.Client), object, to,
		cache.ReflectorOptions{Name: s.String(), TypeDescription: s.resource, Backoff: backoff()}).RunWithContext(ctx)
}

// tableSink puts converted objects into a table.
type tableSink[K store.Key, V any] struct {
	writer  *store.Writer[K, V]
	convert func(any) (K, V, bool)
}

// row is an object of the API as the table keeps it; when keep is false it does not.
type row[K store.Key, V any] struct {
	key   K
	value V
	keep  bool
}

// sink makes the receiving end of a reflector for one table. convert gives
// false for objects that are of no interest: they are not kept.
func sink[K store.Key, V any](w *store.Writer[K, V], convert func(any) (K, V, bool)) cache.ReflectorStore {
	return tableSink[K, V]{w, convert}
}

func (s tableSink[K, V]) Add(o any) error {
	r := s.rowOf(o)
	if !r.keep {
		s.writer.Delete(r.key)
		return nil
	}
	s.writer.Set(r.key, r.value)
	return nil
}

func (s tableSink[K, V]) Update(o any) error { return s.Add(o) }

func (s tableSink[K, V]) Delete(o any) error {
	s.writer.Delete(s.rowOf(o).key)
	return nil
}

func (s tableSink[K, V]) Replace(list []any, _ string) error {
	values := make(map[K]V, len(list))
	for _, o := range list {
		if r := s.rowOf(o); r.keep {
			values[r.key] = r.value
		}
	}
	s.writer.Replace(values)
	return nil
}

// Transformer converts the objects of a first list as they come, so that a
// large cluster is never held in the API's form (cache.TransformingStore).
func (s tableSink[K, V]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) { return s.rowOf(o), nil }
}

func (s tableSink[K, V]) rowOf(o any) row[K, V] {
	if r, ok := o.(row[K, V]); ok {
		return r
	}
	k, v, keep := s.convert(o)
	return row[K, V]{k, v, keep}
}

func (s tableSink[K, V]) Resync() error { return nil }

// nodeKey is the key of a node in the store.
func nodeKey(name string) model.Key { return model.Key{Name: name} }
