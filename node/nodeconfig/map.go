package nodeconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nodelet/node"
)

// field says what becomes of one field. Exactly one of flag, set and why is given, or why beside is.
type field struct {
	path string
	// flag of nodelet that has the same meaning; text writes the value for it, nil
	// for the plain value; an empty text leaves the flag alone.
	flag string
	text func(d *Document, v any) (string, error)
	// also is what else the field says, by another flag; only beside flag.
	also *field
	// set changes the configuration where there is no flag.
	set func(c *node.Config, v any) error
	// is are the values that say what nodelet does anyway.
	is []string
	// why all other values are ignored.
	why string
	// each judges the entries of a map one by one; only beside why.
	each func(d *Document, path string, entries map[string]any) []Ignored
	// zero: 0, false and "" are values and do not mean that the field is not set.
	zero bool
}

// Setting is one thing that the files want.
type Setting struct {
	// Field is the path in the file, From the file.
	Field, From string
	// Flag and Value, or Apply for what has no flag.
	Flag, Value string
	Apply       func(*node.Config) error
}

// Ignored is a field whose value changes nothing.
type Ignored struct {
	Field, From, Value, Why string
}

// String is one line for the log.
func (i Ignored) String() string {
	return fmt.Sprintf("%s: %s: %s is ignored: %s", i.From, i.Field, i.Value, i.Why)
}

// Map turns a document into settings, in the order of the table.
func Map(d *Document) ([]Setting, []Ignored, error) {
	var settings []Setting
	var ignored []Ignored
	var errs []error
	for _, f := range d.kind.fields {
		v := d.get(f.path)
		if v == nil || !f.zero && empty(v) {
			continue
		}
		from := d.from[f.path]
		switch {
		case f.flag != "":
			for one := &f; one != nil; one = one.also {
				text, err := one.write(d, v)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %s: %w", from, f.path, err))
				} else if text != "" {
					settings = append(settings, Setting{Field: f.path, From: from, Flag: one.flag, Value: text})
				}
			}
		case f.set != nil:
			settings = append(settings, Setting{Field: f.path, From: from, Value: plain(v), Apply: func(c *node.Config) error { return f.set(c, v) }})
		case f.each != nil:
			if entries, ok := v.(map[string]any); ok {
				ignored = append(ignored, f.each(d, f.path, entries)...)
			}
		case !slices.Contains(f.is, plain(v)):
			ignored = append(ignored, Ignored{f.path, from, plain(v), f.why})
		}
	}
	return settings, ignored, errors.Join(errs...)
}

func (f field) write(d *Document, v any) (string, error) {
	if f.text != nil {
		return f.text(d, v)
	}
	if list, ok := v.([]any); ok {
		texts := make([]string, len(list))
		for i, x := range list {
			texts[i] = plain(x)
		}
		return strings.Join(texts, ","), nil
	}
	return plain(v), nil
}

// plain writes a value as a file would: text without quotes, all else as JSON.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

func empty(v any) bool {
	switch x := v.(type) {
	case string:
		return x == "" || x == "0s"
	case bool:
		return !x
	case json.Number:
		return x.String() == "0"
	case []any:
		return len(x) == 0
	case map[string]any:
		return len(x) == 0
	}
	return false
}

// decode gives a value the type that it has in the configuration.
func decode[T any](v any) (out T, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}

// into makes a setter of a field that is stored as it is.
func into[T any](to func(*node.Config) *T) func(*node.Config, any) error {
	return func(c *node.Config, v any) error {
		value, err := decode[T](v)
		if err == nil {
			*to(c) = value
		}
		return err
	}
}

// Table writes what becomes of every field, for the documentation.
func Table(k Kind) string {
	var b strings.Builder
	b.WriteString("| field | what happens |\n|---|---|\n")
	for _, f := range k.fields {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.path, f.outcome())
	}
	return b.String()
}

func (f field) outcome() string {
	switch {
	case f.flag != "":
		text := "honoured, as `--" + f.flag + "`"
		if f.also != nil {
			text += " and `--" + f.also.flag + "`"
		}
		return text
	case f.set != nil:
		return "honoured"
	case len(f.is) > 0:
		return "`" + strings.Join(f.is, "`, `") + "` is what nodelet does; else ignored: " + f.why
	}
	return "ignored: " + f.why
}
