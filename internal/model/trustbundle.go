package model

import "maps"

// TrustBundle is what projected volumes need of a ClusterTrustBundle (KEP-3257).
//
// The row without a name says of the list as a whole, in Problem, why the API
// server does not give it.
type TrustBundle struct {
	Name            string
	ResourceVersion string
	// Signer is spec.signerName; empty for a bundle that belongs to nobody.
	Signer string
	Labels map[string]string
	// Anchors are the certificates as PEM, as somebody wrote them.
	Anchors string
	Problem string
}

// Key is the key in table TrustBundles.
func (b *TrustBundle) Key() Key { return Key{Name: b.Name} }

// Equal reports whether volumes made from either are the same.
func (b *TrustBundle) Equal(o *TrustBundle) bool {
	return b.Name == o.Name && b.Signer == o.Signer && b.Anchors == o.Anchors && b.Problem == o.Problem && maps.Equal(b.Labels, o.Labels)
}

// String is one line: name and signer, without the certificates.
func (b *TrustBundle) String() string {
	switch {
	case b.Problem != "":
		return b.Problem
	case b.Signer != "":
		return b.Name + " of " + b.Signer
	}
	return b.Name
}
