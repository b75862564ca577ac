package peer

import "testing"

func TestPublished(t *testing.T) {
	const text = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/cri-api => ./staging/src/k8s.io/cri-api\n)\n"
	const want = "module peers\n\nreplace (\n\tk8s.io/api => k8s.io/api v0.37.0\n\tk8s.io/cri-api => k8s.io/cri-api v0.37.0\n)\n"
	if got := published(text, "v1.37.0"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
