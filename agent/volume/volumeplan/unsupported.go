package volumeplan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// unsupported names the type of a volume as its manifest does.
func unsupported(v *corev1.Volume) string {
	if !element(v.Name) {
		return fmt.Sprintf("volume name %q cannot name a directory", v.Name)
	}
	var types map[string]any
	if raw, err := json.Marshal(v.VolumeSource); err == nil && json.Unmarshal(raw, &types) == nil && len(types) > 0 {
		return fmt.Sprintf("volumes of type %s are not supported by this node", strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	return "volume without a type"
}
