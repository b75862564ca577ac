package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validate checks what the API server would, as far as a wrong value could hurt
// or surprise: the mirror pod goes through all of its checks in any case.
func validate(pod *corev1.Pod) error {
	c := &checker{volumes: map[string]bool{}, names: map[string]bool{}}
	meta, spec := field.NewPath("metadata"), field.NewPath("spec")
	c.text(meta.Child("name"), pod.Name, validation.IsDNS1123Subdomain)
	c.text(meta.Child("namespace"), pod.Namespace, validation.IsDNS1123Label)
	for k, v := range pod.Labels {
		c.text(meta.Child("labels"), k, validation.IsQualifiedName)
		c.text(meta.Child("labels").Key(k), v, validation.IsValidLabelValue)
	}
	for k := range pod.Annotations {
		c.text(meta.Child("annotations"), strings.ToLower(k), validation.IsQualifiedName)
	}
	c.spec(spec, &pod.Spec)
	slices.SortFunc(c.errs, func(a, b *field.Error) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Detail, b.Detail))
	})
	return c.errs.ToAggregate()
}

// checker collects what is wrong.
type checker struct {
	errs field.ErrorList
	// volumes and names (of containers) seen so far.
	volumes, names map[string]bool
}

func (c *checker) bad(at *field.Path, value any, why string) {
	c.errs = append(c.errs, field.Invalid(at, value, why))
}

func (c *checker) text(at *field.Path, value string, check func(string) []string) {
	for _, why := range check(value) {
		c.bad(at, value, why)
	}
}

// one of the values must be meant.
func oneOf[T ~string](c *checker, at *field.Path, value T, all ...T) {
	for _, v := range all {
		if v == value {
			return
		}
	}
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = string(v)
	}
	c.bad(at, value, "must be one of "+strings.Join(texts, ", "))
}

func (c *checker) spec(at *field.Path, s *corev1.PodSpec) {
	oneOf(c, at.Child("restartPolicy"), s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	oneOf(c, at.Child("dnsPolicy"), s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet, corev1.DNSDefault, corev1.DNSNone)
	if s.DNSPolicy == corev1.DNSNone && (s.DNSConfig == nil || len(s.DNSConfig.Nameservers) == 0) {
		c.bad(at.Child("dnsConfig", "nameservers"), "", "needed with dnsPolicy None")
	}
	if *s.TerminationGracePeriodSeconds < 0 {
		c.bad(at.Child("terminationGracePeriodSeconds"), *s.TerminationGracePeriodSeconds, "must not be negative")
	}
	if s.ActiveDeadlineSeconds != nil && *s.ActiveDeadlineSeconds < 1 {
		c.bad(at.Child("activeDeadlineSeconds"), *s.ActiveDeadlineSeconds, "must be positive")
	}
	if s.HostPID && s.ShareProcessNamespace != nil && *s.ShareProcessNamespace {
		c.bad(at.Child("shareProcessNamespace"), true, "cannot be set with hostPID")
	}
	if s.Hostname != "" {
		c.text(at.Child("hostname"), s.Hostname, validation.IsDNS1123Label)
	}
	for i := range s.Volumes {
		c.volume(at.Child("volumes").Index(i), &s.Volumes[i])
	}
	if len(s.Containers) == 0 {
		c.bad(at.Child("containers"), "", "a pod has at least one container")
	}
	for i := range s.InitContainers {
		c.container(at.Child("initContainers").Index(i), &s.InitContainers[i], s.HostNetwork)
	}
	for i := range s.Containers {
		c.container(at.Child("containers").Index(i), &s.Containers[i], s.HostNetwork)
	}
}

func (c *checker) unique(at *field.Path, name string, seen map[string]bool) {
	c.text(at, name, validation.IsDNS1123Label)
	if seen[name] {
		c.errs = append(c.errs, field.Duplicate(at, name))
	}
	seen[name] = true
}

func (c *checker) volume(at *field.Path, v *corev1.Volume) {
	c.unique(at.Child("name"), v.Name, c.volumes)
	if n := sources(v); n != 1 {
		c.bad(at, v.Name, fmt.Sprintf("a volume has one source, this one has %d", n))
	}
	if h := v.HostPath; h != nil {
		c.path(at.Child("hostPath", "path"), h.Path)
		oneOf(c, at.Child("hostPath", "type"), *h.Type, corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory,
			corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)
	}
	if e := v.EmptyDir; e != nil && e.SizeLimit != nil && e.SizeLimit.Sign() < 0 {
		c.bad(at.Child("emptyDir", "sizeLimit"), e.SizeLimit.String(), "must not be negative")
	}
}

// path refuses an empty path and one that climbs.
func (c *checker) path(at *field.Path, path string) {
	if path == "" {
		c.bad(at, path, "must not be empty")
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			c.bad(at, path, "must not contain '..'")
		}
	}
}
