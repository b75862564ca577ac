package store

import (
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

func samePod(a, b *corev1.Pod) bool {
	return a.UID == b.UID && a.ResourceVersion == b.ResourceVersion && a.ResourceVersion != ""
}

// sameNode ignores the resource version: a node object is written every few
// minutes by its own heartbeat, and nothing here depends on that.
func sameNode(a, b *model.Node) bool {
	x, y := *a, *b
	x.ResourceVersion, y.ResourceVersion = "", ""
	return reflect.DeepEqual(x, y)
}

// sameRuntime ignores the time of the observation.
func sameRuntime(a, b *model.PodRuntime) bool {
	x, y := *a, *b
	y.Observed = x.Observed
	return reflect.DeepEqual(x, y)
}

func sameVolumes(a, b *model.PodVolumes) bool { return reflect.DeepEqual(*a, *b) }

// sameNamespace ignores the resource version: most writes of a namespace change nothing that is kept.
func sameNamespace(a, b *model.Namespace) bool {
	return maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}

func sameClaim(a, b *model.Claim) bool {
	return a.Missing == b.Missing && a.Problem == b.Problem && version(a.Claim) == version(b.Claim) && version(a.Volume) == version(b.Volume)
}

// version of an object, empty for none.
func version[T any, P interface {
	*T
	GetResourceVersion() string
}](o P) string {
	if o == nil {
		return ""
	}
	return o.GetResourceVersion()
}
