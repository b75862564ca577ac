package handler

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const healthMethod = "/grpc.health.v1.Health/Check"

// grpc status codes that are told apart.
const (
	grpcOK               = 0
	grpcDeadlineExceeded = 4
	grpcUnimplemented    = 12
)

// health asks a gRPC server for the health of a service.
func (h *Handlers) health(ctx context.Context, t Target, a *corev1.GRPCAction, timeout time.Duration) Result {
	addr, err := t.address("", intstr.FromInt32(a.Port))
	if err != nil {
		return unknown("%v", err)
	}
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+healthMethod, bytes.NewReader(healthRequest(service)))
	if err != nil {
		return unknown("make gRPC request: %v", err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	req.Header.Set("User-Agent", "kube-probe/"+h.cfg.Version)
	tr := transport()
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return failure("timeout: failed to connect service %q within %s: %v", addr, timeout, err)
		}
		return failure("error: failed to connect service at %q: %v", addr, err)
	}
	defer resp.Body.Close()
	return judge(resp, timeout)
}

// judge reads the answer: one message, then the status in the trailers, or in
// the headers when there is no message.
func judge(resp *http.Response, timeout time.Duration) Result {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	if errors.Is(err, context.DeadlineExceeded) {
		return failure("timeout: health rpc did not complete within %s", timeout)
	}
	if err != nil {
		return failure("error: health rpc probe failed: %v", err)
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return failure("error: health rpc probe failed: the server does not speak gRPC: HTTP status %d", resp.StatusCode)
	}
	status := resp.Trailer
	if status.Get("Grpc-Status") == "" {
		status = resp.Header
	}
	code, err := strconv.Atoi(status.Get("Grpc-Status"))
	message, _ := url.PathUnescape(status.Get("Grpc-Message"))
	switch {
	case err != nil:
		return failure("error: health rpc probe failed: the server ended without a gRPC status")
	case code == grpcUnimplemented:
		return failure("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", message)
	case code == grpcDeadlineExceeded:
		return failure("timeout: health rpc did not complete within %s", timeout)
	case code != grpcOK:
		return failure("error: health rpc probe failed: rpc error: code = %d desc = %s", code, message)
	}
	serving, err := healthStatus(body)
	if err != nil {
		return failure("error: health rpc probe failed: %v", err)
	}
	if serving != "SERVING" {
		return failure("service unhealthy (responded with %q)", serving)
	}
	return Result{Outcome: Success, Message: "service healthy"}
}

// frameHeader precedes a gRPC message: one byte for compression, four for the length.
const frameHeader = 5

// healthRequest is the frame of a HealthCheckRequest: field 1, the service, a string.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(message, 1<<3|2)
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

// healthStatus reads the frame of a HealthCheckResponse: field 1, the status,
// a number. Fields of a later version of the message are skipped.
func healthStatus(frame []byte) (string, error) {
	if len(frame) < frameHeader || frame[0] != 0 {
		return "", errors.New("the answer holds no uncompressed message")
	}
	message := frame[frameHeader:]
	if n := binary.BigEndian.Uint32(frame[1:]); uint64(n) != uint64(len(message)) {
		return "", fmt.Errorf("the answer announces %d bytes and has %d", n, len(message))
	}
	status := uint64(0)
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return "", errors.New("the answer is not a health message")
		}
		message = message[n:]
		value, rest, err := field(tag, message)
		if err != nil {
			return "", err
		}
		if tag == 1<<3 {
			status = value
		}
		message = rest
	}
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status < uint64(len(names)) {
		return names[status], nil
	}
	return strconv.FormatUint(status, 10), nil
}

// field reads one field's value by its wire type.
func field(tag uint64, b []byte) (value uint64, rest []byte, err error) {
	size := 0
	switch tag & 7 {
	case 0:
		value, size = binary.Uvarint(b)
	case 1:
		size = 8
	case 2:
		length, n := binary.Uvarint(b)
		if n > 0 && length <= uint64(len(b)) {
			size = n + int(length)
		}
	case 5:
		size = 4
	}
	if size <= 0 || size > len(b) {
		return 0, nil, errors.New("the answer is not a health message")
	}
	return value, b[size:], nil
}
