package podplan

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// Labels of sandboxes and containers, as every tool around CRI knows them.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
)

// Annotations of containers: the memory that survives the daemon. The names
// are the kubelet's where it has one.
const (
	AnnotationRestartCount      = "io.kubernetes.container.restartCount"
	AnnotationTerminationPath   = "io.kubernetes.container.terminationMessagePath"
	AnnotationTerminationPolicy = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationGrace             = "io.kubernetes.pod.terminationGracePeriod"
	AnnotationDeletionGrace     = "io.kubernetes.pod.deletionGracePeriod"
	AnnotationPreStop           = "io.kubernetes.container.preStopHandler"
	AnnotationPorts             = "io.kubernetes.container.ports"
	// AnnotationHash is the hash of what of a container's spec may change in place.
	AnnotationHash = "io.nodelet.container.hash"
	// AnnotationCPU and AnnotationMemory are request and limit that the container
	// was created with, "100/200" in millicores and bytes; 0 is none.
	AnnotationCPU    = "io.nodelet.container.cpu"
	AnnotationMemory = "io.nodelet.container.memory"
	// AnnotationBackOff is the back-off level the container was created with.
	AnnotationBackOff = "io.nodelet.container.backOffLevel"
)

// AnnotationOurs on a sandbox says that nodelet made it, and not another
// kubelet that the same runtime served before or serves since.
const AnnotationOurs = "io.nodelet.sandbox"

func sandboxLabels(pod *corev1.Pod) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, pod.Labels)
	labels[LabelPodName] = pod.Name
	labels[LabelPodNamespace] = pod.Namespace
	labels[LabelPodUID] = string(pod.UID)
	return labels
}

func containerLabels(pod *corev1.Pod, name string) map[string]string {
	return map[string]string{
		LabelPodName: pod.Name, LabelPodNamespace: pod.Namespace,
		LabelPodUID: string(pod.UID), LabelContainerName: name,
	}
}

func containerAnnotations(pod *corev1.Pod, c ctr, attempt uint32, level int) map[string]string {
	a := map[string]string{
		AnnotationCPU:               amounts(pod, c, corev1.ResourceCPU),
		AnnotationMemory:            amounts(pod, c, corev1.ResourceMemory),
		AnnotationHash:              specHash(c),
		AnnotationRestartCount:      strconv.FormatUint(uint64(attempt), 10),
		AnnotationBackOff:           strconv.Itoa(level),
		AnnotationTerminationPath:   c.TerminationMessagePath,
		AnnotationTerminationPolicy: string(c.TerminationMessagePolicy),
	}
	if n := pod.Spec.TerminationGracePeriodSeconds; n != nil {
		a[AnnotationGrace] = strconv.FormatInt(*n, 10)
	}
	if n := pod.DeletionGracePeriodSeconds; n != nil {
		a[AnnotationDeletionGrace] = strconv.FormatInt(*n, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		// API types always marshal.
		raw, _ := json.Marshal(c.Lifecycle.PreStop)
		a[AnnotationPreStop] = string(raw)
	}
	if len(c.Ports) > 0 {
		raw, _ := json.Marshal(c.Ports)
		a[AnnotationPorts] = string(raw)
	}
	return a
}

// specHash covers what of a container may be changed while the pod exists and
// takes a restart: the image.
func specHash(c ctr) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s", c.Name, c.Image)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// changed: the container was made from another definition. One without our
// mark was made by somebody else's agent: it is left alone.
func changed(c ctr, last *model.Container) bool {
	hash := last.Annotations[AnnotationHash]
	return hash != "" && c.kind != ephemeral && c.kind != initial && hash != specHash(c)
}

// PodDir is the directory of a pod's files.
func (s *Settings) PodDir(uid model.UID) string {
	return filepath.Join(s.RootDir, "pods", string(uid))
}

// PodLogs is the directory of a pod's logs.
func (s *Settings) PodLogs(pod *corev1.Pod) string {
	return filepath.Join(s.PodLogDir, pod.Namespace+"_"+pod.Name+"_"+string(pod.UID))
}

// containerLog is the path of a container's log within its pod's.
func containerLog(name string, attempt uint32) string {
	return filepath.Join(name, strconv.FormatUint(uint64(attempt), 10)+".log")
}

// CgroupParent is the pod's cgroup as the runtime wants it named.
func (s *Settings) CgroupParent(pod *corev1.Pod) string {
	qos := map[corev1.PodQOSClass]string{corev1.PodQOSBurstable: "burstable", corev1.PodQOSBestEffort: "besteffort"}[podref.QOS(pod)]
	root := s.CgroupRoot
	if root == "" {
		root = "kubepods"
	}
	if s.SystemdCgroups {
		return systemdSlice(root, qos, string(pod.UID))
	}
	return filepath.Join("/", root, qos, "pod"+string(pod.UID))
}
