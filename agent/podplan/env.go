package podplan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

type variable struct{ name, value string }

// environ is an environment in the order of declaration; a later value of a name replaces the earlier one in its place.
type environ struct {
	vars  []variable
	index map[string]int
	// links are the variables about Services: behind all others, and never instead of one.
	links map[string]string
	// files are the variables that have to be read from files.
	files []EnvFile
}

func (e *environ) set(name, value string) {
	if i, ok := e.index[name]; ok {
		e.vars[i].value = value
		return
	}
	e.index[name] = len(e.vars)
	e.vars = append(e.vars, variable{name, value})
}

func (e *environ) get(name string) (string, bool) {
	if i, ok := e.index[name]; ok {
		return e.vars[i].value, true
	}
	v, ok := e.links[name]
	return v, ok
}

func (e *environ) list() []variable {
	all := slices.Clone(e.vars)
	for _, name := range slices.Sorted(maps.Keys(e.links)) {
		if _, ok := e.index[name]; !ok {
			all = append(all, variable{name, e.links[name]})
		}
	}
	return all
}

// environment is what the container finds in its environment beside the image's own.
func (m *maker) environment(c ctr) (*environ, error) {
	if !m.World.Services.Synced() && !podref.IsStatic(m.obj) {
		// Without the Services, KUBERNETES_SERVICE_HOST would be missing for the container's whole life.
		return nil, &notYet{"the list of Services"}
	}
	e := &environ{index: map[string]int{}, links: m.serviceLinks()}
	for i := range c.EnvFrom {
		if err := m.envFrom(e, &c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.Value != "" || v.ValueFrom == nil {
			e.set(v.Name, podref.Expand(v.Value, e.get))
			continue
		}
		if r := v.ValueFrom.FileKeyRef; r != nil {
			if err := m.fileKeyRef(e, v.Name, r); err != nil {
				return nil, err
			}
			continue
		}
		value, ok, err := m.valueFrom(c, v.ValueFrom)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	return e, nil
}

func (m *maker) envFrom(e *environ, from *corev1.EnvFromSource) error {
	var kind model.ConfigKind
	var name string
	var optional *bool
	switch {
	case from.ConfigMapRef != nil:
		kind, name, optional = model.ConfigMap, from.ConfigMapRef.Name, from.ConfigMapRef.Optional
	case from.SecretRef != nil:
		kind, name, optional = model.Secret, from.SecretRef.Name, from.SecretRef.Optional
	default:
		return nil
	}
	config, err := m.config(kind, name, optional)
	if err != nil || config == nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(config.Data)) {
		e.set(from.Prefix+key, string(config.Data[key]))
	}
	return nil
}

// valueFrom resolves the source of a variable; ok is false when an optional one is missing.
func (m *maker) valueFrom(c ctr, from *corev1.EnvVarSource) (value string, ok bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = m.fieldRef(from.FieldRef)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = m.resourceFieldRef(c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		return m.configValue(model.ConfigMap, r.Name, r.Key, r.Optional)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		return m.configValue(model.Secret, r.Name, r.Key, r.Optional)
	}
	return "", true, nil
}

func (m *maker) configValue(kind model.ConfigKind, name, key string, optional *bool) (string, bool, error) {
	config, err := m.config(kind, name, optional)
	if err != nil || config == nil {
		return "", false, err
	}
	value, ok := config.Data[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, &configError{fmt.Sprintf("couldn't find key %s in %s %s/%s", key, kind, m.obj.Namespace, name)}
	}
	return string(value), ok, nil
}

// config gives a ConfigMap or Secret; nil when it is missing and may be.
func (m *maker) config(kind model.ConfigKind, name string, optional *bool) (*model.Config, error) {
	key := model.ConfigKey{Kind: kind, Key: model.Key{Namespace: m.obj.Namespace, Name: name}}
	config, ok := m.World.Configs.Get(key)
	switch {
	case !ok:
		return nil, &notYet{key.String()}
	case !config.Missing:
		return config, nil
	case optional != nil && *optional:
		return nil, nil
	}
	return nil, &configError{fmt.Sprintf("%s %q not found", strings.ToLower(kind.String()), name)}
}

// serviceLinks gives the variables about the Services of the pod's namespace,
// and about the API's Service, which every pod gets.
func (m *maker) serviceLinks() map[string]string {
	links := map[string]string{}
	all := m.obj.Spec.EnableServiceLinks == nil || *m.obj.Spec.EnableServiceLinks
	api := model.Key{Namespace: "default", Name: "kubernetes"}
	if s, ok := m.World.Services.Get(api); ok {
		linkTo(links, s)
	}
	if !all {
		return links
	}
	for key, s := range m.World.Services.All() {
		if key.Namespace == m.obj.Namespace {
			linkTo(links, s)
		}
	}
	return links
}

func linkTo(links map[string]string, s *model.Service) {
	if s.Headless || len(s.ClusterIPs) == 0 || len(s.Ports) == 0 {
		return
	}
	name := strings.ToUpper(strings.ReplaceAll(s.Key.Name, "-", "_"))
	ip := s.ClusterIPs[0].String()
	links[name+"_SERVICE_HOST"] = ip
	links[name+"_SERVICE_PORT"] = strconv.Itoa(int(s.Ports[0].Port))
	host := ip
	if s.ClusterIPs[0].Is6() {
		host = "[" + ip + "]"
	}
	for i, p := range s.Ports {
		port := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			links[name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))] = port
		}
		proto := p.Protocol.String()
		url := strings.ToLower(proto) + "://" + host + ":" + port
		if i == 0 {
			links[name+"_PORT"] = url
		}
		prefix := name + "_PORT_" + port + "_" + proto
		links[prefix] = url
		links[prefix+"_PROTO"] = strings.ToLower(proto)
		links[prefix+"_PORT"] = port
		links[prefix+"_ADDR"] = ip
	}
}

func expandAll(texts []string, e *environ) []string {
	if len(texts) == 0 {
		return nil
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = podref.Expand(t, e.get)
	}
	return out
}
