package cri

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	// ErrUnavailable says that the runtime did not answer: it is down, starting, or unreachable.
	ErrUnavailable = errors.New("runtime is not answering")
	// ErrUnimplemented says that the runtime does not know the call.
	ErrUnimplemented = errors.New("runtime does not implement the call")
	// ErrNotFound says that the runtime does not know the sandbox, container or image.
	ErrNotFound = errors.New("not found in the runtime")
)

// Error is what a call of a Runtime fails with.
type Error struct {
	Op       string     // the RPC, like "RunPodSandbox"
	Endpoint string     // which runtime
	Code     codes.Code // Unknown for most of what a runtime reports
	Message  string     // the runtime's own words
	cause    error
}

// newError turns err, a gRPC status or any error of an in-process runtime, into an *Error.
func newError(op, endpoint string, err error) *Error {
	e := &Error{Op: op, Endpoint: endpoint, Code: codes.Unknown, Message: err.Error(), cause: err}
	reported, ok := status.FromError(err)
	switch {
	case ok:
		e.Code, e.Message = reported.Code(), reported.Message()
	case errors.Is(err, context.DeadlineExceeded):
		e.Code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		e.Code = codes.Canceled
	}
	return e
}

// Error says which runtime did not do what.
func (e *Error) Error() string {
	switch e.Code {
	case codes.Unavailable:
		return fmt.Sprintf("runtime at %s is not answering: %s: %s", e.Endpoint, e.Op, e.Message)
	case codes.Unimplemented:
		return fmt.Sprintf("runtime at %s does not implement %s", e.Endpoint, e.Op)
	case codes.DeadlineExceeded:
		return fmt.Sprintf("runtime at %s did not finish %s in time: %s", e.Endpoint, e.Op, e.Message)
	default:
		return fmt.Sprintf("%s: %s", e.Op, e.Message)
	}
}

// Unwrap gives the error as it came.
func (e *Error) Unwrap() error { return e.cause }

// Is maps the status code to the sentinels a caller branches on.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case codes.Unavailable:
		return target == ErrUnavailable
	case codes.Unimplemented:
		return target == ErrUnimplemented
	case codes.NotFound:
		return target == ErrNotFound
	case codes.DeadlineExceeded:
		return target == context.DeadlineExceeded
	case codes.Canceled:
		return target == context.Canceled
	default:
		return false
	}
}

// reservedBy finds the holder in the words containerd and CRI-O refuse a taken name with:
//
//	name "a_b_c_0" is reserved for "<id>"                                  (containerd)
//	the container name "a" is already in use by <id>. You have to remove…  (CRI-O, containers/storage)
var reservedBy = regexp.MustCompile(`is reserved for "?([0-9a-f]+)"?|is already in use by "?([0-9a-f]+)"?`)

var reservedWords = regexp.MustCompile(`name is reserved|is reserved for|is already in use`)

// NameReserved reports whether err says that the sandbox's or container's name is taken, and by
// which id where the runtime tells. It happens when an earlier request ran into its deadline but
// went on in the runtime: look the id up and adopt it; raise the attempt only when that fails.
func NameReserved(err error) (id string, reserved bool) {
	var e *Error
	if !errors.As(err, &e) {
		return "", false
	}
	if m := reservedBy.FindStringSubmatch(e.Message); m != nil {
		return m[1] + m[2], true
	}
	return "", e.Code == codes.AlreadyExists || reservedWords.MatchString(e.Message)
}
