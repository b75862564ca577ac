package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	for path, want := range map[string]string{"/": "hello from pod-1 to ", "/healthz": "ok\n"} {
		recorder := httptest.NewRecorder()
		handler("pod-1").ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		if recorder.Code != http.StatusOK || !strings.HasPrefix(recorder.Body.String(), want) {
			t.Errorf("%s: %d %q, want %q", path, recorder.Code, recorder.Body, want)
		}
	}
}
