package kube

import (
	"context"
	"maps"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"nodelet/internal/model"
)

// reflectNamespaces keeps the table of namespaces and, when asked to, that of
// all pods' addresses. A cluster may not let a node list either; its other
// tables must not suffer, so a refusal is not held against the connection.
func (r *Reflector) reflectNamespaces(ctx context.Context, wg *sync.WaitGroup) {
	core := r.Client.core()
	optional := *r
	optional.Contact = nil
	wg.Go(func() {
		reflect(ctx, &optional, source{client: core, resource: "namespaces"}, &corev1.Namespace{}, sink(r.Writers.Namespaces, namespaceIn))
	})
	if r.PodAddrs {
		alive := fields.AndSelectors(
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
		wg.Go(func() {
			reflect(ctx, &optional, source{client: core, resource: "pods", selector: alive}, &corev1.Pod{}, sink(r.Writers.PodAddrs, podAddrOf))
		})
	}
}

func namespaceIn(o any) (model.Key, *model.Namespace, bool) {
	n, ok := o.(*corev1.Namespace)
	if !ok {
		return model.Key{}, nil, false
	}
	out := &model.Namespace{Name: n.Name, ResourceVersion: n.ResourceVersion, Labels: n.Labels}
	out.Annotations = maps.Clone(n.Annotations)
	maps.DeleteFunc(out.Annotations, func(k, _ string) bool { return !strings.HasPrefix(k, model.AnnotationPrefix) })
	return out.Key(), out, true
}

// podAddrOf leaves out pods that are terminating, as upstream's verified pod records do.
func podAddrOf(o any) (model.Key, *model.PodAddr, bool) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return model.Key{}, nil, false
	}
	out := &model.PodAddr{Key: model.Key{Namespace: p.Namespace, Name: p.Name}, ResourceVersion: p.ResourceVersion}
	texts := make([]string, 0, len(p.Status.PodIPs))
	for _, ip := range p.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	if len(texts) == 0 && p.Status.PodIP != "" {
		texts = append(texts, p.Status.PodIP)
	}
	out.IPs = addrs(texts)
	return out.Key, out, len(out.IPs) > 0 && p.DeletionTimestamp == nil
}
