package kube

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestNamesKeepOneCopy(t *testing.T) {
	n := newNames()
	first := n.one(strings.Clone("kube-system"))
	if again := n.one(strings.Clone("kube-system")); again != first || unsafe.StringData(again) != unsafe.StringData(first) {
		t.Error("the second text is a copy of its own")
	}
	for i := range 2 * manyNames {
		n.one(fmt.Sprint(i))
	}
	if len(n.kept) > manyNames {
		t.Errorf("%d texts are kept, at most %d were wanted", len(n.kept), manyNames)
	}
	if got := n.one("kube-system"); got != "kube-system" {
		t.Errorf("afterwards: %q", got)
	}
}

// A first list is the same whether its objects were converted as they came (a
// streamed list) or all at once (an ordinary one).
func TestAFirstListIsTheSameConvertedEarlyOrLate(t *testing.T) {
	list := []any{
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "a", ResourceVersion: "1"}, AddressType: discoveryv1.AddressTypeIPv4},
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "b", ResourceVersion: "2"}, AddressType: discoveryv1.AddressTypeFQDN},
		&corev1.Pod{},
	}
	tables := func(early bool) map[model.Key]*model.Slice {
		s, w := store.New()
		to := sink(w.Slices, newNames().slice)
		objects := make([]any, len(list))
		for i, o := range list {
			objects[i] = o
			if early {
				var err error
				if objects[i], err = to.(cache.TransformingStore).Transformer()(o); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := to.Replace(objects, "9"); err != nil {
			t.Fatal(err)
		}
		out := map[model.Key]*model.Slice{}
		for k, v := range s.Snapshot().Slices.All() {
			out[k] = v
		}
		return out
	}
	early, late := tables(true), tables(false)
	if len(late) != 1 || !maps.EqualFunc(early, late, func(a, b *model.Slice) bool { return a.String() == b.String() }) {
		t.Errorf("early %v, late %v: want the one slice that has addresses", early, late)
	}
}
