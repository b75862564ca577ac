package volumeplan

import (
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/internal/model"
)

// CSI is a volume that a CSI driver makes.
type CSI struct {
	Driver string
	// Handle is the driver's id of the volume; empty for an ephemeral one, whose id is made by the pod and its name.
	Handle     string
	Ephemeral  bool
	Block      bool
	FSType     string
	AccessMode corev1.PersistentVolumeAccessMode
	Attributes map[string]string
	Options    []string
	// Attach: an attacher has to attach the volume to the node first.
	Attach bool
	// Republish: publish again from time to time.
	Republish bool
	// LimitMoves: how many volumes of the driver the node takes changes while it runs (KEP-4876).
	LimitMoves bool
	// Tokens are what the driver wants of the pod's service account.
	Tokens         []storagev1.TokenRequest
	TokensInSecret bool
	// Secrets for the calls; the zero key for none.
	StageSecret, PublishSecret, ExpandSecret model.Key
	// Group of the pod when it has an fsGroup, for drivers that apply it themselves; -1 for none.
	Group int64
}

// persistentCSI plans a volume of a driver behind a claim.
func (f Facts) persistentCSI(out *Volume, pv *corev1.PersistentVolume, block bool) {
	src := pv.Spec.CSI
	c := &CSI{
		Driver: src.Driver, Handle: src.VolumeHandle, Block: block, FSType: src.FSType, AccessMode: corev1.ReadWriteOnce,
		Attributes: src.VolumeAttributes, Options: pv.Spec.MountOptions,
		StageSecret: secretKey(src.NodeStageSecretRef), PublishSecret: secretKey(src.NodePublishSecretRef), ExpandSecret: secretKey(src.NodeExpandSecretRef),
	}
	if len(pv.Spec.AccessModes) > 0 {
		c.AccessMode = pv.Spec.AccessModes[0]
	}
	f.csi(out, c, slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteOnce) || slices.Contains(pv.Spec.AccessModes, corev1.ReadWriteOncePod))
}

// inlineCSI plans a volume of a driver that lives with the pod.
func (f Facts) inlineCSI(out *Volume, v *corev1.Volume) {
	src := v.CSI
	c := &CSI{Driver: src.Driver, Ephemeral: true, AccessMode: corev1.ReadWriteOnce, Attributes: src.VolumeAttributes}
	if src.FSType != nil {
		c.FSType = *src.FSType
	}
	if src.NodePublishSecretRef != nil {
		c.PublishSecret = model.Key{Namespace: f.Pod.Namespace, Name: src.NodePublishSecretRef.Name}
	}
	out.Spec = v.Name
	out.ReadOnly = src.ReadOnly != nil && *src.ReadOnly
	f.csi(out, c, true)
}

func secretKey(r *corev1.SecretReference) model.Key {
	if r == nil {
		return model.Key{}
	}
	return model.Key{Namespace: r.Namespace, Name: r.Name}
}

// csi finishes the plan of a driver's volume by what the CSIDriver object says, or by the defaults when there is none.
func (f Facts) csi(out *Volume, c *CSI, once bool) {
	out.Kind, out.CSI, c.Group = Driver, c, -1
	if !element(c.Driver) || !element(out.Spec) || c.Handle == "" && !c.Ephemeral {
		out.Problem.Text = fmt.Sprintf("CSI volume of driver %q has no usable driver name, volume name or handle", c.Driver)
		return
	}
	dir, _ := PodDir(f.Root, model.UID(f.Pod.UID)) // Make has checked the UID
	if c.Block {
		out.Path = path.Join(f.Root, "plugins/kubernetes.io/csi/volumeDevices/publish", out.Spec, string(f.Pod.UID))
	} else {
		out.Path = path.Join(dir, "volumes/kubernetes.io~csi", out.Spec, "mount")
	}
	if f.Driver == nil {
		out.Problem = Problem{Wait: true, Text: "the CSI drivers of the cluster are not known yet"}
		return
	}
	d, synced := f.Driver(c.Driver)
	if !synced {
		out.Problem = Problem{Wait: true, Text: "the CSI drivers of the cluster are not known yet"}
		return
	}
	spec := storagev1.CSIDriverSpec{}
	if d != nil {
		spec = d.Spec
	}
	c.Attach = !c.Ephemeral && orElse(spec.AttachRequired, true)
	c.Republish = orElse(spec.RequiresRepublish, false)
	c.LimitMoves = orElse(spec.NodeAllocatableUpdatePeriodSeconds, 0) > 0
	c.Tokens, c.TokensInSecret = spec.TokenRequests, orElse(spec.ServiceAccountTokenInSecrets, false)
	mode := storagev1.VolumeLifecyclePersistent
	if c.Ephemeral {
		mode = storagev1.VolumeLifecycleEphemeral
	}
	modes := spec.VolumeLifecycleModes
	if len(modes) == 0 {
		modes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
	if !slices.Contains(modes, mode) {
		out.Problem.Text = fmt.Sprintf("volume mode %q not supported by driver %s (only supports %q)", mode, c.Driver, modes)
		return
	}
	if orElse(spec.PodInfoOnMount, false) {
		c.Attributes = f.withPodInfo(c)
	}
	f.csiGroup(out, c, orElse(spec.FSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy), once)
}

// csiGroup decides who gives the volume to the pod's group: nobody, this node, or a driver that can.
func (f Facts) csiGroup(out *Volume, c *CSI, policy storagev1.FSGroupPolicy, once bool) {
	gid, ok := fsGroup(f.Pod)
	if !ok || c.Block {
		return
	}
	c.Group = gid
	if out.ReadOnly || policy == storagev1.NoneFSGroupPolicy {
		return
	}
	if policy == storagev1.FileFSGroupPolicy || c.FSType != "" && once {
		out.Own = &Ownership{GID: gid, OnlyOnMismatch: onlyOnMismatch(f.Pod)}
	}
}

// withPodInfo adds what a driver with podInfoOnMount is told of the pod.
func (f Facts) withPodInfo(c *CSI) map[string]string {
	out := map[string]string{}
	for k, v := range c.Attributes {
		out[k] = v
	}
	const prefix = "csi.storage.k8s.io/"
	out[prefix+"pod.name"] = f.Pod.Name
	out[prefix+"pod.namespace"] = f.Pod.Namespace
	out[prefix+"pod.uid"] = string(f.Pod.UID)
	out[prefix+"serviceAccount.name"] = f.Pod.Spec.ServiceAccountName
	out[prefix+"ephemeral"] = fmt.Sprint(c.Ephemeral)
	return out
}

func orElse[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
