package server

import (
	"crypto/x509"
	"crypto/x509/pkix"

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
