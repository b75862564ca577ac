package imageplan

import (
	"fmt"
	"regexp"
	"strings"
)

// Name is an image reference taken apart, with the defaults filled in.
type Name struct {
	// Registry is host or host:port.
	Registry string
	// Repository is the path in the registry.
	Repository string
	Tag        string
	Digest     string
}

// Repo is registry and repository.
func (n Name) Repo() string { return n.Registry + "/" + n.Repository }

// The grammar of the distribution project: references are checked here so that
// a bad one gets a clear answer and never reaches a registry.
var (
	domainPattern = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$`)
	pathPattern   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	digestPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$`)
	idPattern     = regexp.MustCompile(`^[a-f0-9]{64}$`)
)

const (
	defaultRegistry = "docker.io"
	defaultTag      = "latest"
	maxRepo         = 255
)

// Parse takes a reference apart.
func Parse(ref string) (Name, error) {
	bad := func(why string) (Name, error) {
		return Name{}, fmt.Errorf("couldn't parse image name %q: %s", ref, why)
	}
	var n Name
	rest, digest, hasDigest := strings.Cut(ref, "@")
	if hasDigest && !digestPattern.MatchString(digest) {
		return bad("the part behind @ is not a digest")
	}
	n.Digest = digest
	// A colon behind the last slash is a tag's; one before it is a port's.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, n.Tag = rest[:i], rest[i+1:]
		if !tagPattern.MatchString(n.Tag) {
			return bad("the part behind : is not a tag")
		}
	}
	if idPattern.MatchString(rest) {
		return bad("64 hexadecimal digits would be an image id")
	}
	n.Registry, n.Repository = defaultRegistry, rest
	if host, repo, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost" || host != strings.ToLower(host)) {
		n.Registry, n.Repository = host, repo
	} else if !ok {
		n.Repository = "library/" + rest
	}
	if n.Registry == "index.docker.io" {
		n.Registry = defaultRegistry
	}
	switch {
	case n.Repository != strings.ToLower(n.Repository):
		return bad("the repository name must be lower case")
	case !domainPattern.MatchString(n.Registry) || !pathPattern.MatchString(n.Repository):
		return bad("it is not of the form [registry/]repository[:tag][@digest]")
	case len(n.Repo()) > maxRepo:
		return bad(fmt.Sprintf("registry and repository have more than %d characters", maxRepo))
	}
	if n.Tag == "" && n.Digest == "" {
		n.Tag = defaultTag
	}
	return n, nil
}

// WithTag gives ref with the tag latest where it has neither tag nor digest,
// and otherwise as written: what a short name means is the runtime's choice.
func WithTag(ref string) (string, error) {
	n, err := Parse(ref)
	if err != nil {
		return "", err
	}
	if n.Digest == "" && !strings.HasSuffix(ref, ":"+n.Tag) {
		ref += ":" + n.Tag
	}
	return ref, nil
}
