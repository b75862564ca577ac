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

// unsupportedPV names the type of a PersistentVolume as its manifest does.
func unsupportedPV(pv *corev1.PersistentVolume, block bool) string {
	var types map[string]any
	what := "of no type"
	if raw, err := json.Marshal(pv.Spec.PersistentVolumeSource); err == nil && json.Unmarshal(raw, &types) == nil && len(types) > 0 {
		what = "of type " + strings.Join(slices.Sorted(maps.Keys(types)), ", ")
	}
	if block {
		what += " with volumeMode Block"
	}
	return fmt.Sprintf("persistent volume %s is %s, which is not supported by this node: use hostPath, local or a CSI driver", pv.Name, what)
}
