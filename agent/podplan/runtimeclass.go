package podplan

import (
	"fmt"

	"nodelet/internal/model"
)

// handler is the name of the runtime's handler for the pod; empty for the default one.
func (m *maker) handler() (string, error) {
	name := m.obj.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return "", nil
	}
	class, ok := m.World.Classes.Get(model.Key{Name: *name})
	switch {
	case ok:
		return class.Handler, nil
	case !m.World.Classes.Synced():
		return "", &notYet{"the list of RuntimeClasses"}
	}
	return "", &configError{fmt.Sprintf("RuntimeClass %q not found", *name)}
}

// features are what the pod's handler can do. What a runtime does not tell of, it cannot do.
func (m *maker) features() Handler {
	name, err := m.handler()
	if err != nil {
		return Handler{}
	}
	return m.Node.Handlers[name]
}
