package control

// DNSQuestion is a lookup to explain.
type DNSQuestion struct {
	// Pod is namespace/name of a pod of this node; empty: the name is asked as it is.
	Pod  string
	Name string
	// Type is a mnemonic; empty means A.
	Type string
}

// DNSAnswer explains a lookup.
type DNSAnswer struct {
	Asked string `json:"asked"`
	Type  string `json:"type"`
	// Revision is that of the zone, Routed that of the service proxy's rules.
	Revision uint64    `json:"revision"`
	Routed   uint64    `json:"routed,omitempty"`
	Config   string    `json:"config"`
	Steps    []DNSStep `json:"steps"`
}

// DNSStep is one name that the resolver library asks for.
type DNSStep struct {
	Name    string   `json:"name"`
	Rcode   string   `json:"rcode"`
	Records []string `json:"records,omitempty"`
	From    string   `json:"from"`
	Objects []string `json:"objects,omitempty"`
	Took    string   `json:"took"`
}
