package kube

import (
	nodev1 "k8s.io/api/node/v1"

	"nodelet/internal/model"
)

// classOf keeps of a RuntimeClass what the node needs: its overhead and
// scheduling rules are put into pods by the API server (KEP-688).
func classOf(o any) (model.Key, *model.RuntimeClass, bool) {
	c, ok := o.(*nodev1.RuntimeClass)
	if !ok {
		return model.Key{}, nil, false
	}
	return model.Key{Name: c.Name}, &model.RuntimeClass{Name: c.Name, Handler: c.Handler}, true
}
