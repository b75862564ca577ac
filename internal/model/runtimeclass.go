package model

// RuntimeClass names a handler of the container runtime for pods to ask for.
type RuntimeClass struct {
	Name string
	// Handler is the name that the runtime's configuration has for it.
	Handler string
}

// String is "name -> handler".
func (c *RuntimeClass) String() string { return c.Name + " -> " + c.Handler }
