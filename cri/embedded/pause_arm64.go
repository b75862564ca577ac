package embedded

import _ "embed"

//go:embed pause_arm64.tar
var pauseArchive []byte
