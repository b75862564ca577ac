package static

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"sigs.k8s.io/yaml"

	"nodelet/agent/static/manifest"
	"nodelet/agent/static/staticplan"
	"nodelet/internal/store"
)

// httpTimeout bounds one request for manifests, as upstream.
const httpTimeout = 10 * time.Second

// syncURL asks for the manifests at the URL and takes what follows. An answer that cannot be had or read changes nothing.
func (s *Static) syncURL(ctx context.Context, _, _ *store.Snapshot) error {
	body, err := s.get(ctx)
	if err != nil {
		return err
	}
	s.take(fromURL, s.split(body))
	return nil
}

func (s *Static) get(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for static pods: %w", err)
	}
	req.Header = s.cfg.Header.Clone()
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for static pods: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for static pods: the answer is %s", s.cfg.URL, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, manifest.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read static pods from %s: %w", s.cfg.URL, err)
	}
	return body, nil
}

// split takes a list of pods apart; anything else is one manifest.
func (s *Static) split(body []byte) []staticplan.Found {
	var list struct {
		Kind  string            `json:"kind"`
		Items []json.RawMessage `json:"items"`
	}
	if yaml.Unmarshal(body, &list) != nil || (list.Kind != "PodList" && list.Kind != "List") {
		return []staticplan.Found{s.parse(body, manifest.HTTP, s.cfg.URL)}
	}
	found := make([]staticplan.Found, 0, len(list.Items))
	for _, item := range list.Items {
		found = append(found, s.parse(typed(item), manifest.HTTP, s.cfg.URL))
	}
	return found
}

// typed fills in the kind, which items of a PodList need not have.
func typed(item json.RawMessage) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(item, &fields) != nil || fields["kind"] != nil {
		return item
	}
	fields["kind"], fields["apiVersion"] = json.RawMessage(`"Pod"`), json.RawMessage(`"v1"`)
	out, err := json.Marshal(fields)
	if err != nil {
		return item
	}
	return out
}
