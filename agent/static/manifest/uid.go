package manifest

import (
	"fmt"
	"hash/fnv"

	"k8s.io/apimachinery/pkg/types"
)

// UID is that of the nth pod made of a manifest with this hash, counted from
// 0. Others than the first are for a manifest that came back before the pod made
// of it last had ended: no two pods may ever have the same UID.
func UID(hash string, n int) types.UID {
	if n == 0 {
		return types.UID(hash)
	}
	h := fnv.New128a()
	_, _ = fmt.Fprintf(h, "%s:%d", hash, n) // a hash takes everything
	return types.UID(fmt.Sprintf("%x", h.Sum(nil)))
}
