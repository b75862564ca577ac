#!/usr/bin/env bash
# The demo: two web servers behind a Service, and a client in the cluster that
# finds them by name. Prints what it does and what came back.
# Usage: examples/hello/run.sh [nodelet program] [data directory] [run directory]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
nodelet=${1:-$here/../../bin/nodelet}
data=${2:-/var/lib/nodelet}
run=${3:-/run/nodelet}
images=$(dirname "$nodelet")/images
kubectl() { "$nodelet" kubectl --data-dir "$data" "$@"; }
begin=$(date +%s%N)
step() { printf '%7.2fs  %s\n' "$(( ($(date +%s%N) - begin) / 10000000 ))e-2" "$*"; }
fail() {
  echo "demo: $1" >&2
  echo "What the cluster says:" >&2
  kubectl get pods,services,endpointslices -o wide >&2 || true
  kubectl get events --sort-by=.lastTimestamp 2>/dev/null | tail -n 15 >&2 || true
  echo "The daemon's log: $data/log/nodelet.log" >&2
  exit 1
}

"$nodelet" images import --data-dir "$data" --run-dir "$run" "$images/hello.tar" "$images/busybox.tar" >/dev/null || fail "cannot import the images"
step "images imported"
# Every namespace gets its default service account from a controller; the demo may be faster.
for _ in $(seq 100); do kubectl get serviceaccount default >/dev/null 2>&1 && break; sleep 0.1; done
kubectl apply -f "$here/hello.yaml" >/dev/null || fail "cannot create the Deployment and its Services"
kubectl rollout status deployment/hello --timeout=90s >/dev/null || fail "the web servers do not become ready"
step "Deployment hello: 2 replicas ready, Services hello and hello-nodeport"
kubectl delete job hello-client --ignore-not-found >/dev/null
kubectl apply -f "$here/client.yaml" >/dev/null || fail "cannot create the client Job"
kubectl wait --for=condition=complete job/hello-client --timeout=90s >/dev/null || fail "the client did not reach the Service"
step "client Job: resolved hello.default.svc.cluster.local and fetched it"
kubectl logs job/hello-client | sed 's/^/          | /'
ip=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
cat <<EOT

A cluster runs on this machine. What to try next:
  sudo $nodelet kubectl get pods -A -o wide
  sudo $nodelet services            what the proxy has in the kernel
  sudo $nodelet endpoints           which endpoints are in use, and why
  sudo $nodelet status              how each part is
  curl http://$ip:30080/            the web servers through the NodePort
  sudo make down                    stop everything; sudo make reset removes every trace
EOT
