// Package certs keeps the certificates of this node: the one it has for the API
// server, and the one of its kubelet API. It asks the API server's signers for
// them, a new one long before the old one ends, and makes a serving certificate
// of its own where nobody signs one. It does not know who uses them: they are
// files, which their users read again when they change.
//
// Flow: `nodelet node --bootstrap-kubeconfig` before the daemon starts, then one
// Keeper for each certificate beside the other parts.
//
// Touches: files of the pki directory, the API server (CertificateSigningRequests).
//
// Invariants:
//   - A certificate and its key are one file, replaced at once: nobody ever
//     reads one without the other.
//   - What is asked for is asked under a name that follows from the key and the
//     wish, and the key is kept until the answer: a killed daemon asks for
//     nothing twice.
//   - A certificate that ends or does not fit any more stays until there is a better one.
package certs
