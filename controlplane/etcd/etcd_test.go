package etcd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func start(t *testing.T, dir string) (*Server, *clientv3.Client) {
	t.Helper()
	socket := filepath.Join(dir, "s")
	s, err := Start(t.Context(), Config{Dir: filepath.Join(dir, "etcd"), Socket: socket, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	// A client may dial at once.
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{Endpoint(socket)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestKeepsData(t *testing.T) {
	dir, err := os.MkdirTemp("", "etcd") //nolint:usetesting // a short path: sockets have no more than 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, value := range []string{"", "kept"} {
		s, c := start(t, dir)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got, err := c.Get(ctx, "key")
		if err != nil {
			t.Fatal(err)
		}
		if value != "" && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value) {
			t.Errorf("got %v, want %s", got.Kvs, value)
		}
		if _, err := c.Put(ctx, "key", "kept"); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		s.Stop()
	}
	info, err := os.Stat(filepath.Join(dir, "etcd"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder %v %v, want 0700", info.Mode(), err)
	}
}

func TestFsyncIsOn(t *testing.T) {
	c, err := config(Config{Dir: "/d", Socket: "/s", Log: slog.New(slog.DiscardHandler)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.UnsafeNoFsync {
		t.Error("acknowledged writes are not on disk")
	}
	if len(c.ListenPeerUrls) > 0 {
		t.Errorf("listens for others at %v", c.ListenPeerUrls)
	}
}

func TestExplain(t *testing.T) {
	for cause, way := range map[string]string{
		"write wal: no space left on device":  "free some space",
		"cannot downgrade from 3.7 to 3.6":    "newer version",
		"walpb: crc mismatch":                 "restore a backup",
		"open database: invalid database":     "restore a backup",
		"open db: permission denied":          "permission denied",
		"something nobody has seen before it": "something nobody",
	} {
		cause := errors.New(cause)
		err := explain(cause, "/data")
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), way) || !strings.Contains(err.Error(), "/data") {
			t.Errorf("%v became %v, want %q and the folder in it", cause, err, way)
		}
	}
}

// Where etcd would end the process, the cause is told and the goroutine ends.
func TestFatal(t *testing.T) {
	var told error
	var out bytes.Buffer
	log := newLogger(slog.New(slog.NewTextHandler(&out, nil)), func(err error) { told = err })
	for name, end := range map[string]func(string, ...zap.Field){"fatal": log.Fatal, "panic": log.Panic} {
		told = nil
		done, survived := make(chan struct{}), false
		go func() {
			defer close(done)
			end("cannot go on", zap.Error(errors.New("bad disk")))
			survived = true
		}()
		<-done
		if survived || told == nil || told.Error() != "cannot go on: bad disk" {
			t.Errorf("%s: survived %v, told %v", name, survived, told)
		}
	}
	out.Reset()
	log.Warn("simple token is not cryptographically signed")
	log.With(zap.String("a", "b")).Warn("slow", zap.Int("n", 1))
	if got := out.String(); !strings.Contains(got, "msg=slow") || !strings.Contains(got, "a=b") ||
		!strings.Contains(got, "n=1") || strings.Contains(got, "token") {
		t.Errorf("logged %s", got)
	}
}
