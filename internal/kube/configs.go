package kube

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// reflectConfigs watches each ConfigMap and Secret that a pod of this node
// refers to, and those of Always, one watch per object: a node may read no others.
// The watch of an immutable object (KEP-1412) ends once it was read; as upstream
// has it, one that was deleted and made anew is read again when nobody refers to
// the old one any more.
func (r *Reflector) reflectConfigs(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[model.ConfigKey]context.CancelFunc{}
	loop := reconcile.Loop{
		Name: "configs", Store: r.Store, Log: r.Log,
		Ready:    func(n *store.Snapshot) bool { return n.Pods.Synced() || !r.Agent },
		Relevant: func(prev, next *store.Snapshot) bool { return prev.Pods.Last() != next.Pods.Last() },
		Sync: func(_ context.Context, _, next *store.Snapshot) error {
			wanted := map[model.ConfigKey]bool{}
			for _, key := range r.Always {
				wanted[key] = true
			}
			for _, pod := range next.Pods.All() {
				for _, key := range podref.References(pod) {
					wanted[key] = true
				}
			}
			for key, stop := range running {
				if !wanted[key] {
					stop()
					delete(running, key)
					r.Writers.Configs.Delete(key)
				}
			}
			for key := range wanted {
				if running[key] == nil {
					watching, stop := context.WithCancel(ctx)
					running[key] = stop
					wg.Go(func() { r.reflectConfig(watching, stop, key) })
				}
			}
			return nil
		},
	}
	_ = loop.Run(ctx) // returns nil once ctx has ended
}

func (r *Reflector) reflectConfig(ctx context.Context, stop func(), key model.ConfigKey) {
	object, resource := runtime.Object(&corev1.ConfigMap{}), "configmaps"
	if key.Kind == model.Secret {
		object, resource = &corev1.Secret{}, "secrets"
	}
	// One object that cannot be read says nothing about the API server: the
	// authorizer learns a moment later than we do which pods are on this node.
	one := *r
	one.Contact = nil
	s := source{client: r.Client.core(), resource: resource, namespace: key.Key.Namespace, selector: fields.OneTermEqualSelector("metadata.name", key.Key.Name)}
	reflect(ctx, &one, s, object, configSink{ctx, stop, key, r.Writers.Configs})
}

// configSink keeps one object, or the fact that it does not exist.
type configSink struct {
	ctx    context.Context
	stop   func() // ends ctx, and with it the watch
	key    model.ConfigKey
	writer *store.Writer[model.ConfigKey, *model.Config]
}

func (s configSink) Add(o any) error {
	if k, v, ok := configOf(o); ok && k == s.key {
		s.set(v)
	}
	return nil
}

func (s configSink) Update(o any) error { return s.Add(o) }

func (s configSink) Delete(any) error {
	s.set(&model.Config{ConfigKey: s.key, Missing: true})
	return nil
}

func (s configSink) Replace(list []any, _ string) error {
	if len(list) == 0 {
		return s.Delete(nil)
	}
	return s.Add(list[0])
}

func (s configSink) Resync() error { return nil }

// set writes unless the object is no longer wanted: the last event of a
// stopped watch must not bring back a key that was deleted.
func (s configSink) set(c *model.Config) {
	s.writer.Commit(func(tx *store.Tx[model.ConfigKey, *model.Config]) {
		if s.ctx.Err() == nil {
			tx.Set(s.key, c)
		}
	})
	if c.Immutable {
		s.stop()
	}
}
