// Command vm runs the kernel's tests on other kernels: it boots each kernel of the matrix in a virtual machine
// (QEMU, emulated, no KVM needed) with the tests of some packages as static binaries, and says per kernel what
// passed, failed and was skipped.
//
//	go run ./test/vm [-kernels 5.15,6.1,6.12] [-run REGEXP] [-test REGEXP]
//
// It makes no statement about speed: emulation is about ten times slower.
//
// Flow: suites.go (what there is to run) -> kernel.go (packages of the distribution, kept below .cache/vm)
// -> rootfs.go, disk.go (what is in the machine) -> boot.go (run it, read the serial line) -> report.go.
// In the machine, guest/main.go is process 1 of the small machines and a service of the one with systemd.
//
// Touches: .cache/vm; runs go, apt-get, apt-cache, dpkg, depmod, mmdebstrap, mke2fs and qemu-system-x86_64.
//
// Invariants: everything comes from the distribution's packages and from this repository; a machine has no
// network; a run that ends without the guest's last word has failed, however good its output looked.
package main
