package embedded

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	bolt "go.etcd.io/bbolt"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func newRecords(t *testing.T) *records {
	t.Helper()
	dir := t.TempDir()
	c := Config{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")}
	for _, d := range []string{c.Root, c.State} {
		mustDo(t, os.Mkdir(d, 0o700))
	}
	r, err := c.records(overlayfs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.volatile = true
	return r
}

// next is the same node's after a restart of the daemon.
func (r *records) next() *records {
	again := *r
	again.saved = nil
	return &again
}

func (r *records) mustPlace(t *testing.T) {
	t.Helper()
	mustDo(t, r.place(t.Context()))
}

// reboot loses the state directory.
func (r *records) reboot(t *testing.T) *records {
	t.Helper()
	mustDo(t, os.RemoveAll(r.live))
	return r.next()
}

// fill writes what containerd's database would hold, by way of the place where containerd opens it.
func (r *records) fill(t *testing.T, content string) {
	t.Helper()
	mustDo(t, os.MkdirAll(filepath.Dir(r.meta().place), 0o700))
	mustDo(t, os.WriteFile(r.meta().place, []byte(content), 0o600))
}

func (r *records) want(t *testing.T, content string, mode os.FileMode) {
	t.Helper()
	place := r.meta().place
	if got, err := os.ReadFile(place); err != nil || string(got) != content {
		t.Errorf("%s holds %q, %v; want %q", place, got, err, content)
	}
	if info, err := os.Lstat(place); err != nil || info.Mode().Type() != mode {
		t.Errorf("%s: %v %v, want type %s", place, info, err, mode)
	}
}

// TestRecordsAreMovedInAndOut: from an earlier version's files to a tmpfs, through restarts and reboots,
// and back to files.
func TestRecordsAreMovedInAndOut(t *testing.T) {
	r := newRecords(t)
	r.fill(t, "first")
	r.mustPlace(t)
	r.want(t, "first", os.ModeSymlink)

	r.fill(t, "second") // not saved: the daemon was killed
	r = r.next()
	r.mustPlace(t)
	r.want(t, "second", os.ModeSymlink)

	r = r.reboot(t) // the power was cut
	r.mustPlace(t)
	r.want(t, "first", os.ModeSymlink)

	r.fill(t, "third")
	mustDo(t, r.save())
	r = r.reboot(t)
	r.volatile = false // the state directory is on a disk now
	r.mustPlace(t)
	r.want(t, "third", 0)
	r.mustPlace(t)
	r.want(t, "third", 0)

	r.fill(t, "fourth")
	r.volatile = true
	r.mustPlace(t)
	r.want(t, "fourth", os.ModeSymlink)
}

// TestRecordsAreOfOneMoment: each archive holds two databases that fit each other and are whole, however
// many commits happen meanwhile.
func TestRecordsAreOfOneMoment(t *testing.T) {
	r := newRecords(t)
	r.mustPlace(t)
	var dbs []*bolt.DB
	for _, f := range []database{r.meta(), r.files[1]} {
		db, err := bolt.Open(f.place, 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, db)
	}
	for range 50 { // large enough that commits come in between while it is copied
		mustDo(t, count(dbs, 100))
	}
	for round := range 60 {
		written := make(chan error)
		go func() { written <- count(dbs, round) }()
		mustDo(t, r.save())
		first, second := r.counted(t)
		if first < second || first > second+1 {
			t.Errorf("the databases are of two moments: %d and %d", first, second)
		}
		mustDo(t, <-written)
	}
	for _, db := range dbs {
		mustDo(t, db.Close())
	}
}

// count counts on in the first database, then in the second, and so on; a commit changes many pages.
func count(dbs []*bolt.DB, times int) error {
	for range times {
		for _, db := range dbs {
			if err := db.Update(countOne); err != nil {
				return err
			}
		}
	}
	return nil
}

func countOne(tx *bolt.Tx) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte("counts"))
	if err != nil {
		return err
	}
	n := uint64(1)
	if last := bucket.Get([]byte("n")); last != nil {
		n += binary.BigEndian.Uint64(last)
	}
	filler := []byte(strings.Repeat("x", int(n%3000)))
	return errors.Join(bucket.Put([]byte("n"), binary.BigEndian.AppendUint64(nil, n)),
		bucket.Put(binary.BigEndian.AppendUint64([]byte("f"), n%1000), filler))
}

// counted opens the archive's databases, checks them, and reads the counters.
func (r *records) counted(t *testing.T) (first, second uint64) {
	t.Helper()
	dir := t.TempDir()
	if err := r.load(func(f database) string { return filepath.Join(dir, f.name) }); err != nil {
		t.Fatal(err)
	}
	var counts []uint64
	for _, f := range []database{r.meta(), r.files[1]} {
		db, err := bolt.Open(filepath.Join(dir, f.name), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				t.Errorf("%s: %v", f.name, err)
			}
			var n uint64
			if bucket := tx.Bucket([]byte("counts")); bucket != nil {
				n = binary.BigEndian.Uint64(bucket.Get([]byte("n")))
			}
			counts = append(counts, n)
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return counts[0], counts[1]
}

// withLayer makes a snapshot database with one committed layer, and the layer's directory.
func (r *records) withLayer(t *testing.T) (layer string) {
	t.Helper()
	store, err := storage.NewMetaStore(r.files[1].place)
	if err != nil {
		t.Fatal(err)
	}
	err = store.WithTransaction(t.Context(), true, func(ctx context.Context) error {
		made, err := storage.CreateSnapshot(ctx, snapshots.KindActive, "active", "")
		if err != nil {
			return err
		}
		layer = filepath.Join(filepath.Dir(r.files[1].place), "snapshots", made.ID)
		_, err = storage.CommitActive(ctx, "active", "layer", snapshots.Usage{})
		return err
	})
	if err := errors.Join(err, store.Close(), os.MkdirAll(layer, 0o700)); err != nil {
		t.Fatal(err)
	}
	return layer
}

// TestUnusableArchive: what cannot be used is put aside, and the node starts without.
func TestUnusableArchive(t *testing.T) {
	tests := map[string]struct {
		harm func(t *testing.T, r *records, layer string)
		bad  bool
	}{
		"nothing is wrong":   {func(*testing.T, *records, string) {}, false},
		"a layer is missing": {func(t *testing.T, _ *records, layer string) { mustDo(t, os.Remove(layer)) }, true},
		"it is cut off":      {func(t *testing.T, r *records, _ string) { mustDo(t, os.Truncate(r.archive, 700)) }, true},
		"it is no archive":   {func(t *testing.T, r *records, _ string) { mustDo(t, os.WriteFile(r.archive, []byte("x"), 0o600)) }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRecords(t)
			r.mustPlace(t)
			layer := r.withLayer(t)
			mustDo(t, os.WriteFile(r.meta().place, make([]byte, headSize), 0o600))
			mustDo(t, r.save())
			r = r.reboot(t)
			test.harm(t, r, layer)
			orphan := filepath.Join(filepath.Dir(layer), "77") // younger than the archive
			mustDo(t, os.Mkdir(orphan, 0o700))
			r.mustPlace(t)
			if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a layer that no database knows is still there (%v)", err)
			}
			if _, err := os.Stat(r.archive + ".bad"); (err == nil) != test.bad {
				t.Errorf("put aside: %v, want %t", err, test.bad)
			}
			if r.there(r.meta()) == test.bad {
				t.Errorf("the databases are there: %t", r.there(r.meta()))
			}
			if err := r.next().save(); err != nil {
				t.Errorf("save after it: %v", err)
			}
		})
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFailedStartSavesNothing: databases that were not put into place do not replace those of the archive.
func TestFailedStartSavesNothing(t *testing.T) {
	r := newRecords(t)
	r.fill(t, "first")
	r.mustPlace(t)
	r = r.reboot(t)
	mustDo(t, r.save())
	archive, err := os.Open(r.archive)
	mustDo(t, err)
	defer archive.Close()
	var names []string
	for read := tar.NewReader(archive); ; {
		header, err := read.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		mustDo(t, err)
		names = append(names, header.Name)
	}
	if !slices.Equal(names, []string{"meta.db"}) {
		t.Errorf("the archive holds %q", names)
	}
}

// TestPowerCut: what was saved is there, and what came after it does no harm.
func TestPowerCut(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()
	sandbox := m.runSandbox("web")
	m.runContainer(sandbox, "web", "app", "sleep", "1000")
	m.signal(syscall.SIGKILL)
	m.reboot()
	m.start()
	images, err := m.cri.ListImages(t.Context(), &runtimev1.ListImagesRequest{})
	if err != nil || len(images.GetImages()) != 2 {
		t.Errorf("images: %v, %v; want busybox and pause", images, err)
	}
	m.runContainer(m.runSandbox("other"), "other", "app", "sleep", "1000")
}
