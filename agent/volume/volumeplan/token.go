package volumeplan

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

const (
	defaultLifetime = time.Hour // what the API fills in for expirationSeconds
	maxTokenAge     = 24 * time.Hour
	maxTokenJitter  = 10 * time.Second
)

// Token is a service account token to ask for, bound to the pod.
type Token struct {
	Path string
	Mode uint32
	// UID of the owner, -1 for the daemon's own.
	UID            int64
	ServiceAccount model.Key
	// Audience is empty for the API server's own.
	Audience string
	Lifetime time.Duration
}

// token plans the file of a token.
func (b *builder) token(src *corev1.ServiceAccountTokenProjection) {
	p := b.clean(src.Path)
	if p == "" {
		return
	}
	t := Token{Path: p, Audience: src.Audience, Lifetime: defaultLifetime}
	t.Mode, t.UID = b.private()
	t.ServiceAccount = model.Key{Namespace: b.facts.Pod.Namespace, Name: b.facts.Pod.Spec.ServiceAccountName}
	if t.ServiceAccount.Name == "" {
		t.ServiceAccount.Name = "default"
	}
	if src.ExpirationSeconds != nil {
		t.Lifetime = time.Duration(*src.ExpirationSeconds) * time.Second
	}
	b.claim(p)
	b.tokens[p] = t
}

// private gives mode and owner of a file that is the pod's own. Without a group and a common user of the
// containers everyone may read it by the default mode; otherwise only these.
func (b *builder) private() (mode uint32, uid int64) {
	uid = commonUser(b.facts.Pod)
	if _, grouped := fsGroup(b.facts.Pod); grouped || uid >= 0 {
		return b.grouped(0o600), uid
	}
	return b.mode & 0o7777, uid
}

// commonUser is the user that all containers run as, -1 when one does not say or they differ.
func commonUser(pod *corev1.Pod) int64 {
	common, same := int64(-1), true
	eachContainer(pod, func(c *corev1.Container) {
		uid := int64(-1)
		if sc := pod.Spec.SecurityContext; sc != nil && sc.RunAsUser != nil {
			uid = *sc.RunAsUser
		}
		if sc := c.SecurityContext; sc != nil && sc.RunAsUser != nil {
			uid = *sc.RunAsUser
		}
		if uid < 0 || common >= 0 && uid != common {
			same = false
		}
		common = uid
	})
	if !same {
		return -1
	}
	return common
}

// Issued is what a token says of itself. Nothing is verified: the API server does that.
type Issued struct {
	At, Expires time.Time
	Audiences   []string
	Namespace   string
	Account     string
	PodUID      model.UID
}

// ParseToken reads the claims of a token that the daemon wrote earlier.
func ParseToken(jwt []byte) (Issued, error) {
	parts := strings.Split(string(jwt), ".")
	if len(parts) != 3 {
		return Issued{}, errors.New("token is not made of three parts")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Issued{}, fmt.Errorf("decode claims of token: %w", err)
	}
	var c struct {
		Aud        any     `json:"aud"`
		Iat        float64 `json:"iat"`
		Exp        float64 `json:"exp"`
		Kubernetes struct {
			Namespace      string                `json:"namespace"`
			ServiceAccount struct{ Name string } `json:"serviceaccount"`
			Pod            struct{ UID string }  `json:"pod"`
			// WarnAfter is when the token was asked to end, where the API server
			// gave it a longer life so that old clients don't break.
			WarnAfter float64 `json:"warnafter"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return Issued{}, fmt.Errorf("decode claims of token: %w", err)
	}
	t := Issued{
		At: time.Unix(int64(c.Iat), 0), Expires: time.Unix(int64(c.Exp), 0),
		Namespace: c.Kubernetes.Namespace, Account: c.Kubernetes.ServiceAccount.Name, PodUID: model.UID(c.Kubernetes.Pod.UID),
	}
	if w := c.Kubernetes.WarnAfter; w > 0 {
		t.Expires = time.Unix(int64(min(w, c.Exp)), 0)
	}
	switch aud := c.Aud.(type) {
	case string:
		t.Audiences = []string{aud}
	case []any:
		for _, a := range aud {
			if s, ok := a.(string); ok {
				t.Audiences = append(t.Audiences, s)
			}
		}
	}
	return t, nil
}

// Serves reports whether a token that was issued earlier is the one t wants for this pod.
func (t Token) Serves(i Issued, pod model.UID) bool {
	return i.PodUID == pod && i.Namespace == t.ServiceAccount.Namespace && i.Account == t.ServiceAccount.Name &&
		(t.Audience == "" || slices.Equal(i.Audiences, []string{t.Audience}))
}

// Refresh is when a token should be replaced: after 80 % of its life or a day,
// whichever is first, and a little earlier, by pod, so that the pods of a node
// don't ask all at once.
func (i Issued) Refresh(pod model.UID) time.Time {
	due := i.At.Add(i.Expires.Sub(i.At) / 5 * 4)
	if day := i.At.Add(maxTokenAge); day.Before(due) {
		due = day
	}
	h := fnv.New64a()
	h.Write([]byte(pod))
	return due.Add(-time.Duration(h.Sum64()>>1) % maxTokenJitter)
}
