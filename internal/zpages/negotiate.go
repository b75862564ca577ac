package zpages

import (
	"maps"
	"mime"
	"slices"
	"strings"
)

const (
	mediaText = "text/plain"
	mediaJSON = "application/json"
	mediaYAML = "application/yaml"
)

// form is a representation that can be served; version is that of a structured one.
type form struct {
	media, version string
}

// negotiate finds the first form in an Accept header that the page has. Weights are not looked at,
// as on upstream. No header is text, and so is whatever text/plain is part of.
func (p page) negotiate(accept string) (form, bool) {
	if strings.TrimSpace(accept) == "" {
		return form{media: mediaText}, true
	}
	for part := range strings.SplitSeq(accept, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		switch media {
		case "*/*", "text/*", mediaText:
			if params["as"] == "" {
				return form{media: mediaText}, true
			}
		case mediaJSON, mediaYAML:
			// mime has made the names of parameters lower case, and left their values.
			known := params["v"] == "v1beta1" || params["v"] == "v1alpha1"
			if known && params["g"] == Group && params["as"] == p.kind {
				return form{media, params["v"]}, true
			}
		}
	}
	return form{}, false
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
