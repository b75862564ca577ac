package server

import (
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
)

// configz shows the configuration.
func (s *Server) configz(w http.ResponseWriter, _ *http.Request, _ request) {
	s.writeJSON(w, map[string]any{"kubeletconfig": s.cfg.Configz})
}

// systemLogs serves the machine's log directory, if that was asked for. Symbolic links that lead out
// of it are not followed.
func (s *Server) systemLogs(w http.ResponseWriter, r *http.Request, req request) {
	if s.cfg.SystemLogs == "" {
		http.Error(w, "logs endpoint is disabled.", http.StatusMethodNotAllowed)
		return
	}
	root, err := os.OpenRoot(s.cfg.SystemLogs)
	if err != nil {
		s.deps.Log.Error("kubelet API: open the log directory", "err", err)
		http.Error(w, "the log directory cannot be opened", http.StatusInternalServerError)
		return
	}
	defer root.Close()
	r2 := r.Clone(r.Context())
	r2.URL.Path = "/" + req.rest
	http.FileServerFS(root.FS()).ServeHTTP(w, r2)
}

// profile serves profiles of this process, if that was asked for.
func (s *Server) profile(w http.ResponseWriter, r *http.Request, req request) {
	if !s.cfg.Profiling {
		http.Error(w, "profiling endpoint is disabled.", http.StatusMethodNotAllowed)
		return
	}
	switch strings.Trim(req.rest, "/") {
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "cmdline":
		pprof.Cmdline(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
}

// served serves what somebody else makes; nil is not there.
func (s *Server) served(h http.Handler) handler {
	if h == nil {
		return func(w http.ResponseWriter, r *http.Request, _ request) { http.NotFound(w, r) }
	}
	return func(w http.ResponseWriter, r *http.Request, _ request) { h.ServeHTTP(w, r) }
}
