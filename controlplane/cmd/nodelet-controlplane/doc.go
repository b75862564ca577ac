// Command nodelet-controlplane is the bundled control plane: upstream's API
// server, scheduler and controllers over embedded etcd in one process, and the
// tools that come with it.
package main
