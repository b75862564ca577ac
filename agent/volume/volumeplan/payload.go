package volumeplan

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

const (
	// The kernel's limits on the length of a file name and of a path.
	maxName = 255
	maxPath = 4096

	defaultMode = 0o644
	// groupRead is what a pod's fsGroup adds to a file's mode, as upstream does for volumes that only the daemon writes.
	groupRead = 0o440
	// groupEnter is what it adds to a directory's.
	groupEnter = setGID | 0o550
)

// written plans a volume that the daemon fills: configMap, secret, downwardAPI, projected.
func (f Facts) written(out *Volume, v *corev1.Volume) {
	out.Kind, out.Mode = Directory, 0o755
	if v.Secret != nil || v.Projected != nil {
		out.Kind = Memory // never on disk
	}
	if gid, ok := fsGroup(f.Pod); ok {
		out.GID = gid
		out.Mode |= groupEnter
	}
	b := &builder{facts: f, files: map[string]File{}, tokens: map[string]Token{}, mode: defaultMode}
	switch {
	case v.ConfigMap != nil:
		b.setMode(v.ConfigMap.DefaultMode)
		b.config(source{model.ConfigMap, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional})
	case v.Secret != nil:
		b.setMode(v.Secret.DefaultMode)
		b.config(source{model.Secret, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional})
	case v.DownwardAPI != nil:
		b.setMode(v.DownwardAPI.DefaultMode)
		b.downward(v.DownwardAPI.Items)
	default:
		b.projected(v.Projected)
	}
	out.Payload, out.Problem = b.finish(v.Name)
}

// builder gathers the payload of one volume; what comes later replaces what
// came before at the same path, as upstream has it for projected sources.
type builder struct {
	facts  Facts
	mode   uint32
	files  map[string]File
	tokens map[string]Token
	// certificates are in the order of their sources.
	certificates []Certificate
	problem      Problem
}

func (b *builder) setMode(mode *int32) {
	if mode != nil {
		b.mode = uint32(*mode)
	}
}

// fail notes the first problem; one for people to mend goes before one that passes by itself.
func (b *builder) fail(wait bool, format string, args ...any) {
	if b.problem.Text == "" || b.problem.Wait && !wait {
		b.problem = Problem{Wait: wait, Text: fmt.Sprintf(format, args...)}
	}
}

func (b *builder) add(p string, data []byte, mode *int32) {
	m := b.mode
	if mode != nil {
		m = uint32(*mode)
	}
	if p = b.clean(p); p != "" {
		b.put(File{Path: p, Data: data, Mode: b.grouped(m), UID: -1})
	}
}

// put takes a file whose path is clean.
func (b *builder) put(f File) {
	b.claim(f.Path)
	b.files[f.Path] = f
}

// claim takes a path from whatever had it.
func (b *builder) claim(p string) {
	delete(b.files, p)
	delete(b.tokens, p)
	for i := range b.certificates {
		for _, other := range b.certificates[i].paths() {
			if *other == p {
				*other = ""
			}
		}
	}
}

// grouped is the mode of a file after the pod's group has been given its rights.
func (b *builder) grouped(mode uint32) uint32 {
	if _, ok := fsGroup(b.facts.Pod); ok {
		mode |= groupRead
	}
	return mode & 0o7777
}

func (b *builder) clean(p string) string {
	if err := checkPath(p); err != nil {
		b.fail(false, "%v", err)
		return ""
	}
	return path.Clean(p)
}

// checkPath says what is wrong with a path inside a volume.
func checkPath(p string) error {
	if p == "" || path.IsAbs(p) || len(p) > maxPath || strings.ContainsRune(p, 0) || path.Clean(p) == "." {
		return fmt.Errorf("path %q is not a relative path of at most %d characters", p, maxPath)
	}
	// Two dots begin the writer's own names. Cleaning comes first: "./..data" is "..data".
	hidden := strings.HasPrefix(path.Clean(p), "..")
	for name := range strings.SplitSeq(p, "/") {
		if hidden || name == ".." {
			return fmt.Errorf("path %q contains '..' or starts with it", p)
		}
		if len(name) > maxName {
			return fmt.Errorf("path %q has a name of more than %d characters", p, maxName)
		}
	}
	return nil
}

// source is a reference to a ConfigMap or Secret.
type source struct {
	kind     model.ConfigKind
	name     string
	items    []corev1.KeyToPath
	optional *bool
}

func (b *builder) config(s source) {
	optional := s.optional != nil && *s.optional
	kind := strings.ToLower(s.kind.String())
	key := model.ConfigKey{Kind: s.kind, Key: model.Key{Namespace: b.facts.Pod.Namespace, Name: s.name}}
	c, known := b.facts.Config(key)
	switch {
	case s.name == "" && !optional:
		b.fail(false, "%s without a name", kind)
		return
	case s.name != "" && !known:
		b.fail(true, "%s %q has not been read yet", kind, s.name)
		return
	case s.name == "" || c.Missing:
		if !optional {
			b.fail(false, "%s %q not found", kind, s.name)
		}
		return
	}
	if len(s.items) == 0 {
		for name, data := range c.Data {
			b.add(name, data, nil)
		}
		return
	}
	for _, item := range s.items {
		data, ok := c.Data[item.Key]
		if !ok && !optional {
			b.fail(false, "%s %q: references non-existent key: %s", kind, s.name, item.Key)
		}
		if ok {
			b.add(item.Path, data, item.Mode)
		}
	}
}

func (b *builder) downward(items []corev1.DownwardAPIVolumeFile) {
	for _, item := range items {
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = podref.Field(b.facts.Pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil && b.facts.Allocatable == nil:
			b.fail(true, "the node's allocatable resources are not known yet")
			continue
		case item.ResourceFieldRef != nil:
			text, err = podref.Resource(b.facts.Pod, "", item.ResourceFieldRef, b.facts.Allocatable)
		}
		if err != nil {
			b.fail(false, "downwardAPI file %q: %v", item.Path, err)
			continue
		}
		b.add(item.Path, []byte(text), item.Mode)
	}
}

func (b *builder) projected(p *corev1.ProjectedVolumeSource) {
	b.setMode(p.DefaultMode)
	for i := range p.Sources {
		switch s := &p.Sources[i]; {
		case s.ConfigMap != nil:
			b.config(source{model.ConfigMap, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional})
		case s.Secret != nil:
			b.config(source{model.Secret, s.Secret.Name, s.Secret.Items, s.Secret.Optional})
		case s.DownwardAPI != nil:
			b.downward(s.DownwardAPI.Items)
		case s.ServiceAccountToken != nil:
			b.token(s.ServiceAccountToken)
		case s.ClusterTrustBundle != nil:
			b.trust(s.ClusterTrustBundle)
		case s.PodCertificate != nil:
			b.certificate(i, s.PodCertificate)
		default:
			// An API server drops what its feature gates do not allow, and leaves an empty source.
			b.fail(false, "projected source %d has no type that this node knows, or its type is turned off in the API server (feature gates ClusterTrustBundleProjection, PodCertificateRequest)", i)
		}
	}
}

// finish sorts what was gathered and checks that no file stands in another's way.
func (b *builder) finish(volume string) (*Payload, Problem) {
	p := &Payload{Nested: nested(b.facts.Pod, volume)}
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		p.Files = append(p.Files, b.files[name])
	}
	for _, name := range slices.Sorted(maps.Keys(b.tokens)) {
		p.Tokens = append(p.Tokens, b.tokens[name])
	}
	p.Certificates = b.certificates
	all := slices.AppendSeq(slices.Collect(maps.Keys(b.files)), maps.Keys(b.tokens))
	for _, c := range p.Certificates {
		all = append(all, c.Paths()...)
	}
	for _, name := range all {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if slices.Contains(all, dir) {
				b.fail(false, "path %q is both a file and a directory", dir)
			}
		}
	}
	return p, b.problem
}

// nested gives the directories in a volume that other volumes are mounted on,
// only the outermost. They must be there, because containers mount the volume
// read-only. A path with .. is left to the runtime to refuse.
func nested(pod *corev1.Pod, volume string) []string {
	var out []string
	eachContainer(pod, func(c *corev1.Container) {
		for _, mine := range c.VolumeMounts {
			if mine.Name != volume || mine.SubPath != "" || mine.SubPathExpr != "" {
				continue
			}
			for _, other := range c.VolumeMounts {
				rel, ok := strings.CutPrefix(path.Clean(other.MountPath), path.Clean(mine.MountPath)+"/")
				if ok && checkPath(rel) == nil {
					out = append(out, rel)
				}
			}
		}
	})
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.DeleteFunc(slices.Clone(out), func(dir string) bool {
		return slices.ContainsFunc(out, func(outer string) bool { return strings.HasPrefix(dir, outer+"/") })
	})
}
