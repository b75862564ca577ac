// Package credplugin asks credential provider plugins, programs that an administrator has put on this
// node, what to log in to a registry with (kubelet exec API credentialprovider.kubelet.k8s.io, KEP-2133).
// It pulls nothing, and gives no service account tokens to plugins (KEP-4412).
//
// Flow: agent/image pull -> Plugins.Logins -> program -> imageplan.Choose -> runtime PullImage.
//
// Touches: the configuration file, once; the programs in the plugin directory.
//
// Invariants:
//   - A plugin that fails or hangs costs its own logins, a minute at most, and one line in the log.
//   - What a plugin says is kept for as long as it says, in memory only, and never printed.
//   - Only a program directly in the plugin directory is run.
package credplugin
