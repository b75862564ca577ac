package volumeplan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"nodelet/internal/model"
)

const pemCertificate = "CERTIFICATE"

// trust plans the file of a clusterTrustBundle source (KEP-3257).
func (b *builder) trust(src *corev1.ClusterTrustBundleProjection) {
	p := b.clean(src.Path)
	if p == "" {
		return
	}
	all, known := b.facts.Bundles()
	if !known {
		b.fail(true, "the ClusterTrustBundles have not been listed yet")
		return
	}
	var rows []*model.TrustBundle
	for key, row := range all {
		if key.Name == "" {
			b.fail(false, "%s", row.Problem)
			return
		}
		rows = append(rows, row)
	}
	chosen, err := choose(src, rows)
	if err != nil {
		b.fail(false, "%v", err)
		return
	}
	f := File{Path: p, Data: anchors(chosen, string(b.facts.Pod.UID))}
	f.Mode, f.UID = b.private()
	b.put(f)
}

// choose gives the bundles that a source names, or selects from those of a signer.
func choose(src *corev1.ClusterTrustBundleProjection, rows []*model.TrustBundle) (chosen []*model.TrustBundle, err error) {
	var missing string
	switch {
	case src.Name != nil:
		missing = fmt.Sprintf("clustertrustbundle %q not found", *src.Name)
		chosen = slices.DeleteFunc(rows, func(r *model.TrustBundle) bool { return r.Name != *src.Name })
	case src.SignerName != nil:
		// As the API has it, no selector selects nothing, and an empty one everything.
		selector, err := metav1.LabelSelectorAsSelector(src.LabelSelector)
		if err != nil {
			return nil, fmt.Errorf("read labelSelector of clusterTrustBundle: %w", err)
		}
		missing = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
		chosen = slices.DeleteFunc(rows, func(r *model.TrustBundle) bool {
			return r.Signer != *src.SignerName || !selector.Matches(labels.Set(r.Labels))
		})
	default:
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	if len(chosen) == 0 && (src.Optional == nil || !*src.Optional) {
		return nil, errors.New(missing)
	}
	return chosen, nil
}

// anchors gives the certificates of bundles, none twice and without anything between them, in an order that
// nobody can rely on: it is another one for each pod, but stays the same for one, over restarts too.
func anchors(bundles []*model.TrustBundle, seed string) []byte {
	type anchor struct{ der, place []byte }
	var all []anchor
	for _, b := range bundles {
		for _, der := range certificates([]byte(b.Anchors)) {
			place := sha256.Sum256(append([]byte(seed), der...))
			all = append(all, anchor{der, place[:]})
		}
	}
	slices.SortFunc(all, func(a, b anchor) int {
		return cmp.Or(bytes.Compare(a.place, b.place), bytes.Compare(a.der, b.der))
	})
	all = slices.CompactFunc(all, func(a, b anchor) bool { return bytes.Equal(a.der, b.der) })
	out := []byte{}
	for _, a := range all {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.der})...)
	}
	return out
}

// certificates gives the content of PEM blocks. What is none is skipped: the API server lets nothing else pass.
func certificates(text []byte) (der [][]byte) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return der
		}
		der = append(der, block.Bytes)
	}
}
