package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"nodelet/internal/podref"
)

// MaxBytes bounds a manifest; upstream takes as much.
const MaxBytes = 10 << 20

// HashAnnotation has what tells one version of a manifest from another; the
// mirror pod says with corev1.MirrorPodAnnotationKey which version it shows.
const HashAnnotation = "kubernetes.io/config.hash"

// Sources of static pods, the values of podref.SourceAnnotation.
const (
	File = "file"
	HTTP = "http"
)

// Origin is where a manifest was found.
type Origin struct {
	Node string
	// Source is File or HTTP, Place the path or the URL.
	Source, Place string
}

// Parse reads the manifest of one pod, YAML or JSON. Warnings are about what is
// in it and has no effect. Errors name the field and what is allowed there.
func Parse(data []byte, origin Origin) (pod *corev1.Pod, warnings []string, err error) {
	if len(data) > MaxBytes {
		return nil, nil, fmt.Errorf("the manifest has more than %d bytes", MaxBytes)
	}
	canonical, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, nil, fmt.Errorf("decode manifest: %w", err)
	}
	pod = &corev1.Pod{}
	if err := json.Unmarshal(canonical, pod); err != nil {
		return nil, nil, fmt.Errorf("decode manifest: %w", err)
	}
	if pod.APIVersion != "v1" || pod.Kind != "Pod" {
		return nil, nil, fmt.Errorf("the manifest is of apiVersion %q and kind %q: only a v1 Pod is taken", pod.APIVersion, pod.Kind)
	}
	if pod.Name == "" {
		return nil, nil, errors.New("metadata.name is missing")
	}
	warnings = ineffective(data, pod)
	own(pod, canonical, origin)
	setDefaults(pod)
	if err := validate(pod); err != nil {
		return nil, warnings, err
	}
	if what := reference(pod); what != "" {
		return nil, warnings, fmt.Errorf("static pods may not reference %s: they run without an API server", what)
	}
	return pod, warnings, nil
}

// ineffective names what is in the text and changes nothing.
func ineffective(data []byte, pod *corev1.Pod) (all []string) {
	if err := yaml.UnmarshalStrict(data, &corev1.Pod{}); err != nil {
		text := strings.Join(strings.Fields(err.Error()), " ")
		all = append(all, strings.TrimPrefix(text, "error unmarshaling JSON: while decoding JSON: json: "))
	}
	if more := bytes.TrimSpace(secondDocument(data)); len(more) > 0 {
		all = append(all, "only the first document is read: one file is one pod")
	}
	if pod.UID != "" {
		all = append(all, "metadata.uid is ignored: it follows from the manifest")
	}
	return all
}

// secondDocument is what comes after the first "---" that has something before it.
func secondDocument(data []byte) []byte {
	rest, begun := data, false
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		switch {
		case begun && bytes.HasPrefix(line, []byte("---")):
			return after
		case len(bytes.TrimSpace(line)) > 0 && line[0] != '#' && !bytes.HasPrefix(line, []byte("---")):
			begun = true
		}
		rest = after
	}
	return nil
}

// own makes the pod this node's: name, namespace, UID, marks and tolerations
// are those that a kubelet gives to static pods.
func own(pod *corev1.Pod, canonical []byte, origin Origin) {
	h := fnv.New128a()
	_, _ = h.Write(canonical) // a hash takes everything
	_, _ = fmt.Fprintf(h, "host:%s%s:%s", origin.Node, origin.Source, origin.Place)
	pod.UID = UID(fmt.Sprintf("%x", h.Sum(nil)), 0)
	pod.Name += "-" + strings.ToLower(origin.Node)
	if pod.Namespace == "" {
		pod.Namespace = corev1.NamespaceDefault
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	delete(pod.Annotations, corev1.MirrorPodAnnotationKey)
	pod.Annotations[HashAnnotation] = string(pod.UID)
	pod.Annotations[podref.SourceAnnotation] = origin.Source
	pod.GenerateName, pod.ResourceVersion, pod.OwnerReferences, pod.Finalizers, pod.ManagedFields = "", "", nil, nil, nil
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds, pod.Generation = nil, nil, 1
	pod.Spec.NodeName = origin.Node
	pod.Spec.EphemeralContainers = nil
	if origin.Source == File {
		tolerateAll(&pod.Spec)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
}

// tolerateAll keeps taints of a node in trouble from ending the pod.
func tolerateAll(spec *corev1.PodSpec) {
	for _, t := range spec.Tolerations {
		if t.Key == "" && t.Operator == corev1.TolerationOpExists && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") && t.TolerationSeconds == nil {
			return
		}
	}
	spec.Tolerations = append(spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
}
