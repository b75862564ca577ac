package zone

import (
	"fmt"

	"nodelet/dns/wire"
	"nodelet/internal/model"
)

// Source is one API object that an answer is made of.
type Source struct {
	Kind            string
	Key             model.Key
	ResourceVersion string
}

// String is "kind namespace/name @resourceVersion".
func (s Source) String() string { return fmt.Sprintf("%s %s @%s", s.Kind, s.Key, s.ResourceVersion) }

// Sources lists the API objects that the answer to q is made of. It is for
// people and may allocate.
func (z *Zone) Sources(q *wire.Query) []Source {
	var out []Source
	for _, key := range z.servicesOf(q) {
		svc, ok := z.in.Services.Get(key)
		if !ok {
			continue
		}
		out = append(out, Source{"Service", key, svc.ResourceVersion})
		if k, ok := serviceKey(key); ok && (svc.Headless || z.belowService(q)) {
			for _, sl := range z.slicesOf([]byte(k)) {
				out = append(out, Source{"EndpointSlice", sl.Key, sl.ResourceVersion})
			}
		}
	}
	return out
}

// belowService reports whether the name is an endpoint's.
func (z *Zone) belowService(q *wire.Query) bool { return q.Labels()-z.c.labels == 4 }

// servicesOf are the Services that a name stands for.
func (z *Zone) servicesOf(q *wire.Query) []model.Key {
	below := q.Labels() - z.c.labels
	if below >= 3 && string(q.From(below)) == z.c.domain && string(q.Between(below-1, below)) == svcLabel {
		return []model.Key{{Namespace: string(q.Label(below - 2)), Name: string(q.Label(below - 3))}}
	}
	var key [16]byte
	n, reverse := reverseKey(q, &key)
	if !reverse || n == 0 {
		return nil
	}
	var out []model.Key
	refs, _ := z.reverse.get(key[:n])
	for _, r := range readRefs(refs) {
		name := r.key[1 : 1+r.key[0]]
		out = append(out, model.Key{Namespace: r.key[2+r.key[0]:], Name: name})
	}
	return out
}
