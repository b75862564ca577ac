package model

import (
	"cmp"
	"strings"
)

// Key names a namespaced API object; Namespace is empty for cluster-scoped
// ones such as Node.
type Key struct {
	Namespace string
	Name      string
}

// String is "namespace/name", or "name" for cluster-scoped objects.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// Compare orders keys by namespace, then by name.
func (k Key) Compare(o Key) int {
	if c := cmp.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return cmp.Compare(k.Name, o.Name)
}

// ParseKey reads the form that String writes.
func ParseKey(s string) Key {
	ns, name, ok := strings.Cut(s, "/")
	if !ok {
		return Key{Name: s}
	}
	return Key{Namespace: ns, Name: name}
}

// UID is the unique id the API server gave an object.
type UID string

// String is the id itself.
func (u UID) String() string { return string(u) }
