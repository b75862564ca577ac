package nft

// Show prints one element by the types of its set, close to how nft does.
func (s *Set) Show(el *Element) string { return s.element(el) }

// Same tells whether two elements have the same key, data and verdict.
func (el *Element) Same(o *Element) bool { return el.id() == o.id() && el.same(o) }

// ID is the element's key, as a string to find it by.
func (el *Element) ID() string { return el.id() }
