package node

import (
	"errors"
	"fmt"
	"strings"

	"nodelet/internal/model"
)

// podTimeline gives the steps of a pod, asked for as pod/NAMESPACE/NAME, NAMESPACE/NAME or NAME.
func (n *Node) podTimeline(pod string) (any, error) {
	if !n.cfg.Has(Agent) {
		return nil, errors.New("this daemon runs without the agent: it knows no pods")
	}
	parts := strings.Split(strings.TrimPrefix(pod, "pod/"), "/")
	key := model.Key{Namespace: "default", Name: parts[len(parts)-1]}
	if len(parts) == 2 {
		key.Namespace = parts[0]
	}
	if len(parts) > 2 || key.Name == "" || key.Namespace == "" {
		return nil, fmt.Errorf("%q names no pod: write pod/NAMESPACE/NAME", pod)
	}
	return n.timeline.Of(key)
}
