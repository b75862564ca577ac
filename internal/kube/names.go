package kube

import "sync"

// manyNames bounds what names remembers.
const manyNames = 1 << 15

// names holds one copy of texts that many objects share, such as namespaces,
// nodes, zones and the names of ports: each object is decoded with copies of its own.
type names struct {
	mu   sync.Mutex
	kept map[string]string
}

func newNames() *names { return &names{kept: map[string]string{}} }

// one gives the copy of a text that is kept. When there are too many it begins
// anew: what is held elsewhere is not touched by that.
func (n *names) one(text string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if kept, ok := n.kept[text]; ok {
		return kept
	}
	return n.keep(text)
}

// ofBytes is one, without a copy of a text that is kept already.
func (n *names) ofBytes(text []byte) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if kept, ok := n.kept[string(text)]; ok {
		return kept
	}
	return n.keep(string(text))
}

func (n *names) keep(text string) string {
	if len(n.kept) >= manyNames {
		clear(n.kept)
	}
	n.kept[text] = text
	return text
}
