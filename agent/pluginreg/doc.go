// Package pluginreg finds the plugins that register with this node by putting
// a socket into the registry directory, as with upstream's kubelet: CSI drivers,
// device plugins and DRA drivers. It does not know what a plugin is for: handlers by type
// do. Part of the flow socket -> Registry.Run -> Handler.Register.
//
// Touches: the directory plugins_registry below the kubelet root, plugins over
// their unix sockets.
//
// Invariants: a socket that is there is registered until it says that it is,
// one that goes is deregistered; events of the directory are hints to look, the
// directory itself is the truth; a plugin that hangs delays no other.
package pluginreg
