package keep

// Keeper is a File as those see it who keep values in it.
type Keeper[V any] interface {
	// Put keeps a value under its key, in place of what was there.
	Put(key string, v V) error
	// Delete forgets a key; an unknown one is no error.
	Delete(key string) error
}

// None keeps nothing: the next process begins anew.
type None[V any] struct{}

// Put does nothing.
func (None[V]) Put(string, V) error { return nil }

// Delete does nothing.
func (None[V]) Delete(string) error { return nil }
