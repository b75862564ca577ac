package manifest

import (
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sources counts the sources of a volume.
func sources(v *corev1.Volume) (n int) {
	s := reflect.ValueOf(v.VolumeSource)
	for i := range s.NumField() {
		if !s.Field(i).IsNil() {
			n++
		}
	}
	return n
}

func (c *checker) container(at *field.Path, x *corev1.Container, hostNetwork bool) {
	c.unique(at.Child("name"), x.Name, c.names)
	if x.Image == "" || strings.TrimSpace(x.Image) != x.Image {
		c.bad(at.Child("image"), x.Image, "must name an image, without blanks around it")
	}
	oneOf(c, at.Child("imagePullPolicy"), x.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	oneOf(c, at.Child("terminationMessagePolicy"), x.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	c.ports(at.Child("ports"), x.Ports, hostNetwork)
	for i := range x.Env {
		c.env(at.Child("env").Index(i), &x.Env[i])
	}
	c.mounts(at, x)
	for name, limit := range x.Resources.Limits {
		if request := x.Resources.Requests[name]; request.Cmp(limit) > 0 {
			c.bad(at.Child("resources", "requests").Key(string(name)), request.String(), "must not exceed the limit "+limit.String())
		}
	}
	for name, request := range x.Resources.Requests {
		if request.Sign() < 0 {
			c.bad(at.Child("resources", "requests").Key(string(name)), request.String(), "must not be negative")
		}
	}
	c.probes(at, x)
}

func (c *checker) ports(at *field.Path, ports []corev1.ContainerPort, hostNetwork bool) {
	for i, p := range ports {
		at := at.Index(i)
		if p.Name != "" {
			c.text(at.Child("name"), p.Name, validation.IsValidPortName)
		}
		c.port(at.Child("containerPort"), int(p.ContainerPort))
		if p.HostPort != 0 {
			c.port(at.Child("hostPort"), int(p.HostPort))
		}
		if hostNetwork && p.HostPort != p.ContainerPort {
			c.bad(at.Child("hostPort"), p.HostPort, "must be the container port with hostNetwork")
		}
		oneOf(c, at.Child("protocol"), p.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
	}
}

func (c *checker) port(at *field.Path, number int) {
	for _, why := range validation.IsValidPortNum(number) {
		c.bad(at, number, why)
	}
}

func (c *checker) env(at *field.Path, e *corev1.EnvVar) {
	c.text(at.Child("name"), e.Name, validation.IsRelaxedEnvVarName)
	if e.Value != "" && e.ValueFrom != nil {
		c.bad(at.Child("valueFrom"), "", "cannot be given with value")
	}
}

func (c *checker) mounts(at *field.Path, x *corev1.Container) {
	places := map[string]bool{}
	for i, m := range x.VolumeMounts {
		at := at.Child("volumeMounts").Index(i)
		if !c.volumes[m.Name] {
			c.errs = append(c.errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" || places[m.MountPath] {
			c.bad(at.Child("mountPath"), m.MountPath, "must be a path that no other mount has")
		}
		places[m.MountPath] = true
		for name, path := range map[string]string{"subPath": m.SubPath, "subPathExpr": m.SubPathExpr} {
			if path == "" {
				continue
			}
			c.path(at.Child(name), path)
			if strings.HasPrefix(path, "/") {
				c.bad(at.Child(name), path, "must be a relative path")
			}
		}
	}
	for i, d := range x.VolumeDevices {
		if !c.volumes[d.Name] {
			c.errs = append(c.errs, field.NotFound(at.Child("volumeDevices").Index(i).Child("name"), d.Name))
		}
	}
}

func (c *checker) probes(at *field.Path, x *corev1.Container) {
	for name, p := range map[string]*corev1.Probe{"livenessProbe": x.LivenessProbe, "readinessProbe": x.ReadinessProbe, "startupProbe": x.StartupProbe} {
		if p == nil {
			continue
		}
		at := at.Child(name)
		c.handler(at, p.ProbeHandler)
		if p.SuccessThreshold != 1 && name != "readinessProbe" {
			c.bad(at.Child("successThreshold"), p.SuccessThreshold, "must be 1")
		}
		for field, n := range map[string]int32{"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds, "periodSeconds": p.PeriodSeconds, "successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold} {
			if n < 0 {
				c.bad(at.Child(field), n, "must not be negative")
			}
		}
	}
}

// handler checks that a probe does one thing.
func (c *checker) handler(at *field.Path, h corev1.ProbeHandler) {
	n := 0
	if h.Exec != nil {
		n++
		if len(h.Exec.Command) == 0 {
			c.bad(at.Child("exec", "command"), "", "must not be empty")
		}
	}
	if h.HTTPGet != nil {
		n++
		c.target(at.Child("httpGet", "port"), h.HTTPGet.Port)
		oneOf(c, at.Child("httpGet", "scheme"), h.HTTPGet.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	}
	if h.TCPSocket != nil {
		n++
		c.target(at.Child("tcpSocket", "port"), h.TCPSocket.Port)
	}
	if h.GRPC != nil {
		n++
		c.port(at.Child("grpc", "port"), int(h.GRPC.Port))
	}
	if n != 1 {
		c.bad(at, n, "must have one of exec, httpGet, tcpSocket and grpc")
	}
}

func (c *checker) target(at *field.Path, p intstr.IntOrString) {
	if p.Type == intstr.Int {
		c.port(at, p.IntValue())
		return
	}
	c.text(at, p.StrVal, validation.IsValidPortName)
}
