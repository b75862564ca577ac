package volumeplan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// claimProtection keeps a claim alive while a pod uses it: one that is being
// deleted but has it may still be used.
const claimProtection = "kubernetes.io/pvc-protection"

// claimed plans the volume behind a PersistentVolumeClaim.
func (f Facts) claimed(out *Volume, v *corev1.Volume) {
	name, _ := podref.ClaimName(f.Pod, v)
	key := model.Key{Namespace: f.Pod.Namespace, Name: name}
	claim, known := f.claim(key)
	if !known {
		out.Problem = Problem{Wait: true, Claim: true, Text: fmt.Sprintf("claim %s has not been looked up yet", key)}
		return
	}
	pv, text := checkClaim(claim)
	if text != "" {
		out.Problem = Problem{Claim: true, Text: fmt.Sprintf("error processing PVC %s: %s", key, text)}
		return
	}
	if v.Ephemeral != nil && !metav1.IsControlledBy(claim.Claim, f.Pod) {
		out.Problem = Problem{Claim: true, Text: fmt.Sprintf("PVC %s was not created for pod %s/%s (pod is not owner)", key, f.Pod.Namespace, f.Pod.Name)}
		return
	}
	out.Spec, out.Claim = pv.Name, key
	out.ReadOnly = v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly
	f.bound(out, pv)
}

func (f Facts) claim(key model.Key) (*model.Claim, bool) {
	if f.Claim == nil {
		return nil, false
	}
	return f.Claim(key)
}

// checkClaim gives the volume that a claim is bound to, or why it cannot be used.
func checkClaim(c *model.Claim) (*corev1.PersistentVolume, string) {
	switch {
	case c.Missing:
		return nil, fmt.Sprintf("persistentvolumeclaim %q not found", c.Key.Name)
	case c.Claim == nil:
		return nil, "fetch PVC from API server: " + c.Problem
	}
	pvc, pv := c.Claim, c.Volume
	switch {
	case pvc.DeletionTimestamp != nil && !slices.Contains(pvc.Finalizers, claimProtection):
		return nil, "PVC is being deleted"
	case pvc.Status.Phase != corev1.ClaimBound:
		return nil, "PVC is not bound"
	case pvc.Spec.VolumeName == "":
		return nil, "PVC has empty pvc.Spec.VolumeName"
	case pv == nil:
		return nil, fmt.Sprintf("persistentvolume %q not found", pvc.Spec.VolumeName)
	case pv.Spec.ClaimRef == nil:
		return nil, fmt.Sprintf("PV %s has no claimRef: it is not yet bound to the claim", pv.Name)
	case pv.Spec.ClaimRef.UID != pvc.UID:
		return nil, fmt.Sprintf("PV %s is bound to the claim with UID %s, not to this one with %s", pv.Name, pv.Spec.ClaimRef.UID, pvc.UID)
	}
	return pv, ""
}

// bound plans a PersistentVolume for the pod.
func (f Facts) bound(out *Volume, pv *corev1.PersistentVolume) {
	block := pv.Spec.VolumeMode != nil && *pv.Spec.VolumeMode == corev1.PersistentVolumeBlock
	if pv.Spec.NodeAffinity != nil && f.NodeLabels == nil {
		out.Problem = Problem{Wait: true, Text: "the labels of this node are not known yet"}
		return
	}
	if text := f.checkUse(out.Name, pv, block); text != "" {
		out.Problem = Problem{Claim: true, Text: text}
		return
	}
	if f.Taken != nil && slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteOncePod) {
		if other := f.Taken(out.Claim); other != "" {
			out.Problem.Text = fmt.Sprintf("volume uses the ReadWriteOncePod access mode and is already in use by another pod (%s)", other)
			return
		}
	}
	switch {
	case pv.Spec.HostPath != nil && !block:
		f.hostPath(out, pv.Spec.HostPath)
	case pv.Spec.Local != nil:
		f.local(out, pv, block)
	case pv.Spec.CSI != nil:
		f.persistentCSI(out, pv, block)
	default:
		out.Problem.Text = unsupportedPV(pv, block)
	}
}

// checkUse says why this pod on this node may not use the volume, empty when it may.
func (f Facts) checkUse(volume string, pv *corev1.PersistentVolume, block bool) string {
	mounted, mapped := uses(f.Pod, volume)
	switch {
	case mounted && block:
		return fmt.Sprintf("volume %s has volumeMode Block, but is specified in volumeMounts", volume)
	case mapped && !block:
		return fmt.Sprintf("volume %s has volumeMode Filesystem, but is specified in volumeDevices", volume)
	case !f.reachable(pv.Spec.NodeAffinity):
		return fmt.Sprintf("volume %q cannot be used on node %q: its nodeAffinity does not match the node's labels", pv.Name, f.NodeName)
	}
	return ""
}

// uses tells how the containers of a pod use a volume.
func uses(pod *corev1.Pod, volume string) (mounted, mapped bool) {
	eachContainer(pod, func(c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			mounted = mounted || m.Name == volume
		}
		for _, d := range c.VolumeDevices {
			mapped = mapped || d.Name == volume
		}
	})
	return mounted, mapped
}

// hostPath plans something of the host.
func (f Facts) hostPath(out *Volume, src *corev1.HostPathVolumeSource) {
	out.Kind, out.Path = HostPath, src.Path
	if src.Type != nil {
		out.Type = *src.Type
	}
	out.checkHostPath("hostPath")
}

// local plans a directory or a device of this very node. A device that pods use
// as a directory is mounted, with a file system made if it has none.
func (f Facts) local(out *Volume, pv *corev1.PersistentVolume, block bool) {
	out.Kind, out.Path, out.Type = HostPath, pv.Spec.Local.Path, corev1.HostPathDirectory
	out.checkHostPath("local path")
	if block {
		out.Kind, out.Type = Device, corev1.HostPathBlockDev
		return
	}
	dir, err := PodDir(f.Root, model.UID(f.Pod.UID))
	if err != nil || !element(pv.Name) {
		out.Problem.Text = unsupportedPV(pv, block)
		return
	}
	out.Disk = &Disk{Dir: path.Join(dir, "volumes", "kubernetes.io~local-volume", pv.Name), Options: pv.Spec.MountOptions}
	if t := pv.Spec.Local.FSType; t != nil {
		out.Disk.FSType = *t
	}
	if gid, ok := fsGroup(f.Pod); ok && !out.ReadOnly {
		out.Own = &Ownership{GID: gid, OnlyOnMismatch: onlyOnMismatch(f.Pod)}
	}
}

func (v *Volume) checkHostPath(what string) {
	if !path.IsAbs(v.Path) || slices.Contains(strings.Split(v.Path, "/"), "..") {
		v.Problem.Text = fmt.Sprintf("%s %q is not an absolute path without ..", what, v.Path)
	}
}

func onlyOnMismatch(pod *corev1.Pod) bool {
	p := pod.Spec.SecurityContext.FSGroupChangePolicy
	return p != nil && *p == corev1.FSGroupChangeOnRootMismatch
}
