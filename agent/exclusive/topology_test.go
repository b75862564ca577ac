package exclusive

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A machine of two sockets with a NUMA node and a cache each, whose second CPU of each does not tell of caches.
func TestReadTopology(t *testing.T) {
	sys := t.TempDir()
	files := map[string]string{
		"devices/system/cpu/online":         "0-3\n",
		"devices/system/node/node0/cpulist": "0-1\n",
		"devices/system/node/node1/cpulist": "2-3\n",
	}
	for cpu := range 4 {
		at := fmt.Sprintf("devices/system/cpu/cpu%d/", cpu)
		files[at+"topology/physical_package_id"] = fmt.Sprintln(cpu / 2)
		files[at+"topology/core_id"] = fmt.Sprintln(cpu % 2) // within the socket
		files[at+"cache/index0/level"], files[at+"cache/index0/shared_cpu_list"] = "1\n", fmt.Sprintln(cpu)
		if cpu%2 == 0 {
			files[at+"cache/index3/level"], files[at+"cache/index3/shared_cpu_list"] = "3\n", fmt.Sprintf("%d-%d\n", cpu, cpu+1)
		}
	}
	for name, content := range files {
		file := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadTopology(sys)
	want := "[{0 0 0 0 0} {1 1 -1 0 0} {2 2 2 1 1} {3 3 -2 1 1}]"
	if fmt.Sprint(got) != want || err != nil {
		t.Errorf("%v %v, want %s", got, err, want)
	}
	if _, err := ReadTopology(t.TempDir()); err == nil {
		t.Error("a machine without CPUs")
	}
}

func TestReadDistances(t *testing.T) {
	sys := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(sys, "devices/system/node", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ReadDistances(sys); err == nil {
		t.Error("a machine that tells nothing has distances")
	}
	write("online", "0,2\n")
	write("node0/distance", "10 21\n")
	if _, err := ReadDistances(sys); err == nil {
		t.Error("a node without distances has them")
	}
	write("node2/distance", "22 10\n")
	got, err := ReadDistances(sys)
	if err != nil || len(got) != 4 || got[[2]int{0, 0}] != 10 || got[[2]int{0, 2}] != 21 || got[[2]int{2, 0}] != 22 {
		t.Errorf("got %v, %v", got, err)
	}
	write("node2/distance", "22\n")
	if _, err := ReadDistances(sys); err == nil {
		t.Error("a row that is too short is taken")
	}
}
