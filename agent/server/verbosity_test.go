package server

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestVerbosity(t *testing.T) {
	level := -1
	s := &Server{deps: Deps{Log: slog.New(slog.DiscardHandler), Verbosity: func(v int) { level = v }}}
	for _, test := range []struct {
		body  string
		code  int
		level int
	}{{"4", 200, 4}, {"much", 400, -1}, {"", 400, -1}, {"2\n", 200, 2}} {
		level = -1
		rec := httptest.NewRecorder()
		s.verbosity(rec, httptest.NewRequest("PUT", "/debug/flags/v", strings.NewReader(test.body)), request{})
		if rec.Code != test.code || level != test.level {
			t.Errorf("%q: %d %s and level %d, want %d and %d", test.body, rec.Code, rec.Body, level, test.code, test.level)
		}
	}
	s.deps.Verbosity = nil
	rec := httptest.NewRecorder()
	if s.verbosity(rec, httptest.NewRequest("PUT", "/debug/flags/v", strings.NewReader("4")), request{}); rec.Code != 405 {
		t.Errorf("switched off: %d, want 405", rec.Code)
	}
	req := httptest.NewRequest("GET", "/debug/flags/v", nil)
	if _, status := parse(req); status != 405 {
		t.Errorf("GET: %d, want 405", status)
	}
}
