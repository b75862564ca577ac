package node

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// parseTaints reads key=value:effect or key:effect.
func parseTaints(texts []string) ([]corev1.Taint, error) {
	var out []corev1.Taint
	for _, s := range texts {
		rest, effect, ok := strings.Cut(s, ":")
		key, value, _ := strings.Cut(rest, "=")
		effects := []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
		if !ok || key == "" || !slices.Contains(effects, corev1.TaintEffect(effect)) {
			return nil, fmt.Errorf("--register-with-taints %q: must be key=value:effect, effect one of %v", s, effects)
		}
		out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return out, nil
}
