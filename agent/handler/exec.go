package handler

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/podref"
)

// execution is a command to run in a container; timeout 0 means until ctx ends.
type execution struct {
	command []string
	timeout time.Duration
}

// exec runs a command in the container and judges by its exit code.
func (h *Handlers) exec(ctx context.Context, t Target, e execution) Result {
	got, err := h.deps.Runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{
		ContainerId: t.ContainerID, Cmd: e.command, Timeout: int64(e.timeout / time.Second),
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return failure("command timed out: %q timed out after %s", e.command, e.timeout)
	case err != nil:
		return unknown("run command: %v", err)
	case got.GetExitCode() != 0:
		return failure("%s", output(got))
	}
	return Result{Outcome: Success, Message: output(got)}
}

// output is what a command wrote, both streams one after the other: the
// runtime does not tell in which order they came.
func output(r *runtimev1.ExecSyncResponse) string {
	all := append(r.GetStdout()[:len(r.GetStdout()):len(r.GetStdout())], r.GetStderr()...)
	return string(all[:min(len(all), maxOutput)])
}

// expand fills in variables that the container's spec gives as plain values.
func expand(command []string, c *corev1.Container) []string {
	lookup := func(name string) (string, bool) {
		for i := len(c.Env) - 1; i >= 0; i-- {
			if c.Env[i].Name == name {
				return c.Env[i].Value, true
			}
		}
		return "", false
	}
	out := make([]string, len(command))
	for i, arg := range command {
		out[i] = podref.Expand(arg, lookup)
	}
	return out
}
