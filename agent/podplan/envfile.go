package podplan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// EnvFile is a variable whose value is in a file of a volume (KEP-3721), written by an init container: it can
// only be read when the container is made. Until then Stand is in the place of the value, wherever it is used.
type EnvFile struct {
	Name, Stand string
	// Dir is the volume on the host; Path is within it.
	Dir, Path, Key string
	// Optional: without file or key there is no variable.
	Optional bool
}

// stand marks what stands for a value: no variable, command or argument can contain it.
const stand = "\x00"

// fileKeyRef notes that a value has to be read.
func (m *maker) fileKeyRef(e *environ, name string, r *corev1.FileKeySelector) error {
	dir, ok := m.volumes().HostPaths[r.VolumeName]
	if !ok {
		return &configError{fmt.Sprintf("cannot find the volume %q referenced by FileKeyRef", r.VolumeName)}
	}
	f := EnvFile{Name: name, Stand: fmt.Sprintf("%sfile %d%s", stand, len(e.files), stand), Dir: dir, Path: r.Path, Key: r.Key}
	f.Optional = r.Optional != nil && *r.Optional
	e.files = append(e.files, f)
	e.set(name, f.Stand)
	return nil
}

// EnvFileValue looks for a key in a file of lines such as KEY='value'. Values stand in single quotes, are taken
// as they are, and may go over several lines; # begins a comment. One that is not there is empty, as upstream has it.
func EnvFileValue(text, key string) (string, error) {
	lines, number := strings.Split(text, "\n"), 0
	next := func() (string, bool) {
		if number == len(lines) || number == len(lines)-1 && lines[number] == "" {
			return "", false
		}
		number++
		return strings.TrimSuffix(lines[number-1], "\r"), true
	}
	for {
		line, ok := next()
		if !ok {
			return "", nil
		}
		if line = strings.TrimLeft(line, " \t"); line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		switch bare := strings.TrimRight(name, " \t"); {
		case !ok:
			return "", fmt.Errorf("line %d: there is no '='", number)
		case bare == "":
			return "", fmt.Errorf("line %d: the variable has no name", number)
		case bare != name:
			return "", fmt.Errorf("line %d: there is a space before '='", number)
		}
		if strings.TrimLeft(value, " \t") != value {
			value = "''" // as a shell has it: what comes behind the space is not the value
		}
		value, err := quoted(value, number, next)
		if err != nil || name == key {
			return value, err
		}
	}
}

// quoted reads a value from its first quote to its last, on as many lines as that takes.
func quoted(text string, number int, next func() (string, bool)) (string, error) {
	rest, ok := strings.CutPrefix(text, "'")
	if !ok {
		return "", fmt.Errorf("line %d: the value is not in single quotes", number)
	}
	var value strings.Builder
	for {
		inside, after, closed := strings.Cut(rest, "'")
		value.WriteString(inside)
		if after = strings.TrimLeft(after, " \t"); closed && after != "" && after[0] != '#' {
			return "", fmt.Errorf("line %d: there is something behind the value", number)
		}
		if closed {
			return value.String(), nil
		}
		value.WriteByte('\n')
		if rest, ok = next(); !ok {
			return "", fmt.Errorf("line %d: the value does not end", number)
		}
	}
}
