package volumeplan

import (
	"encoding/base64"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"nodelet/internal/model"
)

func jwt(claims string) []byte {
	return []byte("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln")
}

const kubernetes = `"kubernetes.io":{"namespace":"ns","serviceaccount":{"name":"robot","uid":"x"},"pod":{"name":"p","uid":"u"}`

func TestRefresh(t *testing.T) {
	for name, c := range map[string]struct {
		claims string
		after  time.Duration
	}{
		"an hour":                            {`{"iat":1000,"exp":4600}`, 48 * time.Minute},
		"a week":                             {`{"iat":1000,"exp":605800}`, 24 * time.Hour},
		"a year that was asked as an hour":   {`{"iat":1000,"exp":31537000,"kubernetes.io":{"warnafter":4607}}`, 3607 * time.Second * 4 / 5},
		"an hour with a later warning":       {`{"iat":1000,"exp":4600,"kubernetes.io":{"warnafter":99999}}`, 48 * time.Minute},
		"the shortest that can be asked for": {`{"iat":1000,"exp":1600}`, 8 * time.Minute},
	} {
		i, err := ParseToken(jwt(c.claims))
		if err != nil {
			t.Fatal(err)
		}
		spread := map[time.Time]bool{}
		for _, uid := range []model.UID{"a", "b", "c"} {
			due := i.Refresh(uid)
			late := time.Unix(1000, 0).Add(c.after).Sub(due)
			if late < 0 || late >= maxTokenJitter {
				t.Errorf("%s: refreshed %s before it should be", name, late)
			}
			spread[due] = true
		}
		if len(spread) != 3 {
			t.Errorf("%s: pods ask at the same time", name)
		}
	}
}

func TestServes(t *testing.T) {
	want := Token{ServiceAccount: model.Key{Namespace: "ns", Name: "robot"}}
	vault := want
	vault.Audience = "vault"
	for _, c := range []struct {
		claims string
		token  Token
		want   bool
	}{
		{`{` + kubernetes + `},"aud":["https://api"]}`, want, true},
		{`{` + kubernetes + `},"aud":["vault"]}`, vault, true},
		{`{` + kubernetes + `},"aud":"vault"}`, vault, true},
		{`{` + kubernetes + `},"aud":["https://api"]}`, vault, false},
		{`{` + kubernetes + `},"aud":["vault","other"]}`, vault, false},
		{strings.Replace(`{`+kubernetes+`}}`, `"u"}`, `"other"}`, 1), want, false},
		{strings.Replace(`{`+kubernetes+`}}`, "robot", "other", 1), want, false},
		{strings.Replace(`{`+kubernetes+`}}`, `"ns"`, `"other"`, 1), want, false},
		{`{}`, want, false},
	} {
		i, err := ParseToken(jwt(c.claims))
		if err != nil {
			t.Fatalf("%s: %v", c.claims, err)
		}
		if got := c.token.Serves(i, "u"); got != c.want {
			t.Errorf("%s for %q: %t", c.claims, c.token.Audience, got)
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	for _, text := range []string{"", "a.b", "a.b.c.d", "a.!.c", string(jwt("[]")), string(jwt(`{"iat":"x"}`))} {
		if i, err := ParseToken([]byte(text)); err == nil {
			t.Errorf("%q gave %+v", text, i)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(jwt(`{` + kubernetes + `},"aud":["a"],"iat":1,"exp":2}`))
	f.Add([]byte("a.b.c"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if i, err := ParseToken(text); err == nil {
			i.Refresh("u")
		}
	})
}

// A path that is let through stays inside whatever directory it is joined to,
// and cannot be taken for one of the writer's own names.
func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"a", "a/b", "../x", "a/../../b", "/etc", "..data", "a//b/", "./a", ".", "a\x00b", "..."} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if checkPath(p) != nil {
			return
		}
		clean := path.Clean(p)
		joined := path.Join("/volume", clean)
		if !strings.HasPrefix(joined, "/volume/") || strings.HasPrefix(clean, "..") || strings.ContainsRune(clean, 0) {
			t.Fatalf("%q was let through as %q", p, clean)
		}
		if !fs.ValidPath(strings.ToValidUTF8(clean, "x")) {
			t.Fatalf("%q is not a path for the writer", clean)
		}
	})
}
