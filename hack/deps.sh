#!/usr/bin/env bash
# Installs the system packages that nodelet needs to run and to be tested.
# deps.sh vm: also those of the test machines (make test-vm); deps.sh daemonset:
# also those of a node that is not ours (make e2e-daemonset); deps.sh bench: also
# what nodelet is measured against (make bench); deps.sh bpf: also what compiles
# the eBPF programs (make generate-check).
set -euo pipefail
# package:program that proves it is there
need=(runc:runc nftables:nft iptables:iptables conntrack:conntrack iproute2:ip procps:sysctl kmod:modprobe
      busybox-static:busybox dnsutils:dig bind9-host:host musl-tools:musl-gcc curl:curl)
if [ "${1:-}" = vm ]; then
  need+=(qemu-system-x86:qemu-system-x86_64 mmdebstrap:mmdebstrap e2fsprogs:mke2fs xz-utils:xz dpkg:dpkg netbase:/etc/protocols)
elif [ "${1:-}" = daemonset ]; then
  need+=(containerd:containerd containernetworking-plugins:/usr/lib/cni/bridge)
elif [ "${1:-}" = bench ]; then
  need+=(containerd:containerd containernetworking-plugins:/usr/lib/cni/bridge dnsperf:dnsperf)
elif [ "${1:-}" = bpf ]; then
  need+=(clang:clang llvm:llvm-strip libbpf-dev:/usr/include/bpf/bpf_helpers.h)
fi
missing=()
for n in "${need[@]}"; do
  PATH=$PATH:/usr/sbin:/sbin command -v "${n#*:}" >/dev/null 2>&1 || [ -f "${n#*:}" ] || missing+=("${n%%:*}")
done
# The static busybox goes into an image, so any other busybox will not do.
if ! printf '%s\n' "${missing[@]:-}" | grep -qx busybox-static && ! grep -qs -- . /usr/share/doc/busybox-static/copyright; then
  missing+=(busybox-static)
fi
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "This is not Debian or Ubuntu: install these yourself, by the names your distribution gives them," >&2
  echo "and run make again: ${missing[*]}" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "Missing packages: ${missing[*]}. Run 'sudo hack/deps.sh${1:+ $1}', or: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "install ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install ${missing[*]}: see above; install them yourself and run make again." >&2
  exit 1
fi
