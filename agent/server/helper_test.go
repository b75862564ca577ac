package server

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
)

const clientAuth = x509.ExtKeyUsageClientAuth

func subject(name string) pkix.Name { return pkix.Name{CommonName: name} }

// brokenStreams gives addresses at which nobody answers.
type brokenStreams struct{ streaming.Server }

func (brokenStreams) GetExec(*runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	return &runtimev1.ExecResponse{Url: "http://127.0.0.1:1/exec/token"}, nil
}

// serveOnce is a streaming server of one answer; it gives its address.
func serveOnce(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/exec/token"
}

// dialTLS connects as admin.
func dialTLS(w *world) (*tls.Conn, error) {
	return tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), w.tls("admin"))
}
