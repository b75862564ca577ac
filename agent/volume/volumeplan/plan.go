package volumeplan

import (
	"cmp"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/internal/model"
)

// Facts is all that Make looks at.
type Facts struct {
	Pod *corev1.Pod
	// Root is the kubelet root directory.
	Root string
	// Config gives what is known of a ConfigMap or Secret; false when it has not been looked up yet.
	Config func(model.ConfigKey) (*model.Config, bool)
	// Claim gives what is known of a claim; false when it has not been looked up yet.
	Claim func(model.Key) (*model.Claim, bool)
	// Taken names another pod that holds a volume that only one may have, empty for none.
	Taken func(claim model.Key) string
	// Driver gives what the cluster says of a CSI driver, nil for nothing; false while that is unknown.
	Driver func(name string) (*storagev1.CSIDriver, bool)
	// Bundles gives the ClusterTrustBundles of the cluster by name, perhaps with one without a name that says
	// what is wrong; false while they are unknown.
	Bundles func() (iter.Seq2[model.Key, *model.TrustBundle], bool)
	// NodeName and NodeLabels are this node's, for volumes that can be used on some nodes only.
	NodeName   string
	NodeLabels map[string]string
	// Allocatable of the node; nil while unknown.
	Allocatable corev1.ResourceList
}

// Plan is the wanted state of the volumes of one pod. Volumes that no
// container mounts are left out, as upstream does, and so are images.
type Plan struct {
	UID     model.UID
	Dir     string
	Volumes []Volume
}

// Kind says what a volume is made of.
type Kind uint8

// The kinds of volumes.
const (
	// Directory is an empty directory on the node's disk.
	Directory Kind = iota
	// Memory is a tmpfs.
	Memory
	// HostPath is something of the host, checked and perhaps created, never removed.
	HostPath
	// Device is a block device of the host.
	Device
	// Driver is what a CSI driver makes.
	Driver
	// HugePages is a hugetlbfs.
	HugePages
)

// Volume is the wanted state of one volume. With a Problem, only what is
// needed to find the volume as it was made earlier is filled in.
type Volume struct {
	Name string
	Kind Kind
	// Path is where containers get the volume from.
	Path string
	// Mode, with the set-group-id bit as in the kernel (02000), and GID of the
	// directory; GID is -1 for the daemon's own. Not for HostPath.
	Mode uint32
	GID  int64
	// Size of a Memory volume in bytes; 0 for the kernel's default.
	Size int64
	// PageSize of HugePages in bytes.
	PageSize int64
	// Type is the check a HostPath must pass.
	Type corev1.HostPathType
	// Payload is what the volume holds; nil for an emptyDir and a hostPath.
	Payload *Payload
	// Spec names the volume where several pods share it: the PersistentVolume, or the volume itself. Only behind a Claim and for a Driver.
	Spec  string
	Claim model.Key
	// ReadOnly: the pod may only read it.
	ReadOnly bool
	// Disk, if not nil, says what to do when Path is a block device.
	Disk *Disk
	// Own, if not nil, gives all that is in the volume to a group.
	Own *Ownership
	// CSI says how the Driver makes it.
	CSI     *CSI
	Problem Problem
}

// Plugin is the name of the volume's type as upstream's metrics have it.
func (v *Volume) Plugin() string {
	switch v.Kind {
	case Driver:
		return "kubernetes.io/csi"
	case HostPath, Device:
		if v.Claim.Name != "" && v.Type != "" {
			return "kubernetes.io/local-volume"
		}
		return "kubernetes.io/host-path"
	}
	return strings.Replace(path.Base(path.Dir(v.Path)), "~", "/", 1)
}

// Ownership gives a volume with all that is in it to a group, as fsGroup says.
type Ownership struct {
	GID int64
	// OnlyOnMismatch: not when the volume's root has the right group and mode already.
	OnlyOnMismatch bool
}

// Disk says how pods get the file system of a block device.
type Disk struct {
	// Dir is where it is mounted for the pod.
	Dir string
	// FSType it must have; empty for what there is, or else the usual one.
	FSType  string
	Options []string
}

// Block reports whether containers get a device and not a directory.
func (v *Volume) Block() bool { return v.Kind == Device || v.CSI != nil && v.CSI.Block }

// Payload is what the daemon writes into a volume and keeps up to date.
type Payload struct {
	// Files are sorted by path; no path is below another.
	Files []File
	// Tokens become files too, once the API server has issued them.
	Tokens []Token
	// Certificates too, once their signers have issued them.
	Certificates []Certificate
	// Nested are directories that other volumes are mounted on.
	Nested []string
}

// File is one file of a Payload.
type File struct {
	Path string
	Data []byte
	Mode uint32
	// UID of the owner, -1 for the daemon's own. The group is the volume's.
	UID int64
}

// Problem says why a volume is not there; the zero value means that it can be.
type Problem struct {
	// Wait: something is not known yet and will come by itself; nothing for people to mend.
	Wait bool
	// Claim: the claim behind the volume is the problem, not the volume.
	Claim bool
	Text  string
}

// Make decides on the volumes of a pod.
func Make(f Facts) (*Plan, error) {
	p := &Plan{UID: model.UID(f.Pod.UID)}
	dir, err := PodDir(f.Root, p.UID)
	if err != nil {
		return nil, err
	}
	p.Dir = dir
	used := mounted(f.Pod)
	for i := range f.Pod.Spec.Volumes {
		// An image is mounted by the runtime itself: there is nothing of it on this node's disk to make.
		if v := &f.Pod.Spec.Volumes[i]; used[v.Name] && v.Image == nil {
			p.Volumes = append(p.Volumes, f.volume(dir, v))
		}
	}
	slices.SortFunc(p.Volumes, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	return p, nil
}

// PodDir is the directory of a pod below the kubelet root directory.
func PodDir(root string, uid model.UID) (string, error) {
	if !element(string(uid)) {
		return "", fmt.Errorf("pod uid %q cannot name a directory", uid)
	}
	return path.Join(root, "pods", string(uid)), nil
}

// element reports whether name is one harmless element of a path.
func element(name string) bool {
	return name != "" && name[0] != '.' && len(name) <= maxName && !strings.ContainsAny(name, "/\x00")
}

// volume plans one volume.
func (f Facts) volume(dir string, v *corev1.Volume) Volume {
	out := Volume{Name: v.Name, GID: -1}
	switch {
	case v.HostPath != nil:
		f.hostPath(&out, v.HostPath)
		return out
	case v.PersistentVolumeClaim != nil || v.Ephemeral != nil:
		f.claimed(&out, v)
		return out
	case v.CSI != nil:
		f.inlineCSI(&out, v)
		return out
	}
	kind := typeName(&v.VolumeSource)
	if kind == "" || !element(v.Name) {
		out.Problem.Text = unsupported(v)
		return out
	}
	out.Path = path.Join(dir, "volumes", "kubernetes.io~"+kind, v.Name)
	if v.EmptyDir != nil {
		f.emptyDir(&out, v.EmptyDir)
		return out
	}
	f.written(&out, v)
	return out
}

// typeName is the name of the volume's type as upstream's directories have it,
// empty for a type that is not supported.
func typeName(s *corev1.VolumeSource) string {
	switch {
	case s.EmptyDir != nil:
		return "empty-dir"
	case s.ConfigMap != nil:
		return "configmap"
	case s.Secret != nil:
		return "secret"
	case s.DownwardAPI != nil:
		return "downward-api"
	case s.Projected != nil:
		return "projected"
	}
	return ""
}

// mounted gives the names of the volumes that some container mounts, or has variables from.
func mounted(pod *corev1.Pod) map[string]bool {
	names := map[string]bool{}
	eachContainer(pod, func(c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			names[m.Name] = true
		}
		for _, d := range c.VolumeDevices {
			names[d.Name] = true
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.FileKeyRef != nil {
				names[e.ValueFrom.FileKeyRef.VolumeName] = true
			}
		}
	})
	return names
}

// eachContainer calls fn for the containers of all kinds.
func eachContainer(pod *corev1.Pod, fn func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		fn(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		fn(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		fn(&c)
	}
}

func fsGroup(pod *corev1.Pod) (gid int64, ok bool) {
	if sc := pod.Spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		return *sc.FSGroup, true
	}
	return -1, false
}
