package nodeconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	proxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

// Kind is one kind of configuration file.
type Kind struct {
	apiVersion, name string
	object           func() any
	fields           []field
}

// Kubelet is KubeletConfiguration, Proxy is KubeProxyConfiguration.
func Kubelet() Kind {
	return Kind{"kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", func() any { return &kubeletv1beta1.KubeletConfiguration{} }, kubeletFields()}
}

// Proxy is KubeProxyConfiguration.
func Proxy() Kind {
	return Kind{"kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", func() any { return &proxyv1alpha1.KubeProxyConfiguration{} }, proxyFields()}
}

// String is the kind as files write it.
func (k Kind) String() string { return k.name }

// File is a file by its name.
type File struct {
	Name string
	Data []byte
}

// Document is what files say together.
type Document struct {
	kind   Kind
	values map[string]any
	// from names the file that said so last, by the path of the field.
	from map[string]string
}

// Merge reads files in their order: a later one wins, field by field. Maps are
// merged by key, lists replaced, and null takes a field back, as KEP-3983 has
// it (RFC 7386). Every file must name the kind and version.
func Merge(kind Kind, files []File) (*Document, error) {
	d := &Document{kind: kind, values: map[string]any{}, from: map[string]string{}}
	var errs []error
	for _, f := range files {
		values, err := kind.parse(f.Data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, err))
			continue
		}
		delete(values, "kind")
		delete(values, "apiVersion")
		d.patch(d.values, values, "", f.Name)
	}
	return d, errors.Join(errs...)
}

// parse reads one file strictly: unknown and doubled fields and wrong types are errors.
func (k Kind) parse(data []byte) (map[string]any, error) {
	raw, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	var head struct{ APIVersion, Kind string }
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("this is no %s: %w", k, err)
	}
	if head.Kind != k.name || head.APIVersion != k.apiVersion {
		return nil, fmt.Errorf("is %q of version %q, must be kind: %s and apiVersion: %s", head.Kind, head.APIVersion, k.name, k.apiVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(k.object()); err != nil {
		return nil, k.locate(data, raw, err)
	}
	var values map[string]any
	dec = json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&values); err != nil {
		return nil, err
	}
	return values, k.exact(data, values)
}

// exact refuses names that are right but for the case of letters, which the decoder lets through.
func (k Kind) exact(data []byte, values map[string]any) error {
	known := map[string]bool{"kind": true, "apiVersion": true}
	for _, path := range k.paths() {
		name, _, _ := strings.Cut(path, ".")
		known[name] = true
	}
	var errs []error
	for name := range values {
		if !known[name] {
			errs = append(errs, fmt.Errorf("line %d: unknown field %q", lineOf(data, name), name))
		}
	}
	return errors.Join(errs...)
}

var unknown = regexp.MustCompile(`unknown field "([^"]+)"`)

// locate says on which line the mistake is.
func (k Kind) locate(data, raw []byte, err error) error {
	var name string
	var wrong *json.UnmarshalTypeError
	if m := unknown.FindStringSubmatch(err.Error()); m != nil {
		name = m[1]
		err = fmt.Errorf("unknown field %q", name)
	} else if errors.As(err, &wrong) {
		name = wrong.Field[strings.LastIndex(wrong.Field, ".")+1:]
		err = fmt.Errorf("field %q cannot be a %s", wrong.Field, wrong.Value)
	} else {
		name = k.guilty(raw)
		if name != "" {
			err = fmt.Errorf("field %q: %w", name, err)
		}
	}
	if line := lineOf(data, name); line > 0 {
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// guilty finds the field whose own parser refuses its value, such as a duration.
func (k Kind) guilty(raw []byte) string {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return ""
	}
	for name, value := range all {
		one, err := json.Marshal(map[string]json.RawMessage{name: value})
		if err == nil && json.Unmarshal(one, k.object()) != nil {
			return name
		}
	}
	return ""
}

// lineOf finds the line that gives a field its value, 0 when it is not found.
func lineOf(data []byte, name string) int {
	if name == "" {
		return 0
	}
	key := regexp.MustCompile(`(^|[\s{,"'-])` + regexp.QuoteMeta(name) + `["']?\s*:`)
	for i, line := range strings.Split(string(data), "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") && key.MatchString(line) {
			return i + 1
		}
	}
	return 0
}

// patch merges what a file says into what is known.
func (d *Document) patch(into, from map[string]any, prefix, file string) {
	for name, value := range from {
		path := prefix + name
		inner, isMap := value.(map[string]any)
		switch {
		case value == nil:
			delete(into, name)
		case isMap:
			have, ok := into[name].(map[string]any)
			if !ok {
				have = map[string]any{}
				into[name] = have
			}
			d.patch(have, inner, path+".", file)
			d.from[path] = file
		default:
			into[name] = value
			d.from[path] = file
		}
	}
}

// get finds the value of a field by its path; nil when nobody says anything.
func (d *Document) get(path string) any {
	var at any = d.values
	for name := range strings.SplitSeq(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[name]
	}
	return at
}

// paths lists the fields of a kind: structs that belong to Kubernetes'
// configuration are walked into, all else is one field.
func (k Kind) paths() []string {
	var out []string
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if strings.Contains(options, "inline") || name == "" || name == "-" || !f.IsExported() {
				continue
			}
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && strings.Contains(inner.PkgPath(), "config/v1") && inner.Name() != "Duration" {
				walk(inner, prefix+name+".")
				continue
			}
			out = append(out, prefix+name)
		}
	}
	walk(reflect.TypeOf(k.object()).Elem(), "")
	return out
}
