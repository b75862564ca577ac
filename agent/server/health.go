package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// checks are the health checks by the names upstream has for them, in the order of the answer.
func (s *Server) checks() []check {
	fine := func() error { return nil }
	syncLoop := s.deps.SyncLoop
	if syncLoop == nil {
		syncLoop = fine
	}
	// ping answers because we do; log because there is no flusher here that could hang.
	return []check{{"ping", fine}, {"log", fine}, {"syncloop", syncLoop}}
}

type check struct {
	name string
	ask  func() error
}

// healthz answers health checks: all, one by name, or all in words with ?verbose.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request, req request) {
	s.answerHealth(w, r, strings.Trim(req.rest, "/"))
}

func (s *Server) answerHealth(w http.ResponseWriter, r *http.Request, only string) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	all := s.checks()
	if only != "" {
		all = slices.DeleteFunc(all, func(c check) bool { return c.name != only })
		if len(all) == 0 {
			http.NotFound(w, r)
			return
		}
	}
	var text strings.Builder
	var failed []string
	for _, c := range all {
		if err := c.ask(); err != nil {
			s.deps.Log.Warn("health check failed", "check", c.name, "err", err)
			fmt.Fprintf(&text, "[-]%s failed: reason withheld\n", c.name)
			failed = append(failed, c.name)
			continue
		}
		fmt.Fprintf(&text, "[+]%s ok\n", c.name)
	}
	switch {
	case len(failed) > 0:
		http.Error(w, text.String()+"healthz check failed", http.StatusInternalServerError)
	case r.URL.Query().Has("verbose"):
		fmt.Fprintf(w, "%shealthz check passed\n", text.String())
	default:
		fmt.Fprint(w, "ok")
	}
}

// healthServer answers /healthz to this machine, without asking who it is.
func (s *Server) healthServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { s.answerHealth(w, r, "") })
	mux.HandleFunc("GET /healthz/{check}", func(w http.ResponseWriter, r *http.Request) { s.answerHealth(w, r, r.PathValue("check")) })
	return &http.Server{
		Handler: mux, ReadTimeout: headerTimeout, WriteTimeout: headerTimeout, IdleTimeout: keepAlive, MaxHeaderBytes: 16 << 10,
	}
}
