package model

// ConfigKind tells a ConfigMap from a Secret.
type ConfigKind uint8

// The two kinds of configuration objects a pod can refer to.
const (
	ConfigMap ConfigKind = iota
	Secret
)

// String is the kind as Kubernetes writes it.
func (k ConfigKind) String() string {
	if k == Secret {
		return "Secret"
	}
	return "ConfigMap"
}

// ConfigKey names one ConfigMap or Secret.
type ConfigKey struct {
	Kind ConfigKind
	Key  Key
}

// String is "kind/namespace/name".
func (k ConfigKey) String() string { return k.Kind.String() + "/" + k.Key.String() }

// Config is a ConfigMap or Secret that a pod of this node refers to.
//
// A reference that has been looked up and does not exist is kept as a value
// with Missing set: absence in the table means "not looked up yet", so that a
// planner can tell "wait" from "the user must mend it".
type Config struct {
	ConfigKey
	ResourceVersion string
	Missing         bool
	Immutable       bool
	// SecretType is the type of a Secret, for pull secrets.
	SecretType string
	// Data merges data and binaryData of a ConfigMap, or holds the data of a Secret. Never printed.
	Data map[string][]byte
}

// String is one line without any content.
func (c *Config) String() string {
	if c.Missing {
		return c.ConfigKey.String() + " missing"
	}
	return c.ConfigKey.String() + " @" + c.ResourceVersion
}
