package server

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nodelet/agent/server/nodelog"
	"nodelet/internal/zpages"
)

// component is what this server stands for, for those who look for a kubelet.
const component = "kubelet"

// statusz tells what the component is, and which paths it serves.
func (s *Server) statusz() http.Handler {
	status := s.cfg.Status
	status.Component = component
	status.Paths = slices.AppendSeq(slices.Collect(maps.Keys(fixed)), maps.Keys(perPod))
	return zpages.Statusz(status)
}

// systemLogs serves the machine's log directory, if that was asked for, and answers queries for the
// logs of services (KEP-2258). Symbolic links that lead out of the directory are not followed.
func (s *Server) systemLogs(w http.ResponseWriter, r *http.Request, req request) {
	if s.cfg.SystemLogs == "" {
		http.Error(w, "logs endpoint is disabled.", http.StatusMethodNotAllowed)
		return
	}
	path := req.rest
	if s.cfg.LogQuery {
		q, asked, err := nodelog.Parse(r.URL.Query())
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		case asked && req.rest != "":
			http.Error(w, "path not allowed in query mode", http.StatusNotAcceptable)
			return
		case asked:
			if err := q.Check(); err != nil {
				http.Error(w, err.Error(), http.StatusNotAcceptable)
				return
			}
			if len(q.Services) > 0 {
				s.serviceLogs(w, r, q)
				return
			}
			path = strings.TrimLeft(filepath.ToSlash(q.Files[0]), "/")
		}
	}
	root, err := os.OpenRoot(s.cfg.SystemLogs)
	if err != nil {
		s.deps.Log.Error("kubelet API: open the log directory", "err", err)
		http.Error(w, "the log directory cannot be opened", http.StatusInternalServerError)
		return
	}
	defer root.Close()
	r2 := r.Clone(r.Context())
	r2.URL.Path = "/" + path
	http.FileServerFS(root.FS()).ServeHTTP(w, r2)
}

func (s *Server) serviceLogs(w http.ResponseWriter, r *http.Request, q nodelog.Query) {
	w.Header().Set("Content-Type", "text/plain;charset=UTF-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := s.queries.Copy(r.Context(), w, q); err != nil {
		http.Error(w, err.Error(), http.StatusTooManyRequests)
	}
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

// verbosity changes how much is logged, as on the kubelet: curl -X PUT --data 4 .../debug/flags/v.
func (s *Server) verbosity(w http.ResponseWriter, r *http.Request, _ request) {
	if s.deps.Verbosity == nil {
		http.Error(w, "flags endpoint is disabled.", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "error reading request body", http.StatusBadRequest)
		return
	}
	level, err := strconv.Atoi(strings.TrimSpace(string(body)))
	if err != nil {
		http.Error(w, fmt.Sprintf("%q is no level: send a number", body), http.StatusBadRequest)
		return
	}
	s.deps.Verbosity(level)
	s.deps.Log.Info("kubelet API: the level of logs was changed", "v", level)
	fmt.Fprintf(w, "successfully set klog.logging.verbosity to %d", level)
}

// served serves what somebody else makes; nil is not there.
func (s *Server) served(h http.Handler) handler {
	if h == nil {
		return func(w http.ResponseWriter, r *http.Request, _ request) { http.NotFound(w, r) }
	}
	return func(w http.ResponseWriter, r *http.Request, _ request) { h.ServeHTTP(w, r) }
}
