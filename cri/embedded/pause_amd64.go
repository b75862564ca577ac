package embedded

import _ "embed"

//go:embed pause_amd64.tar
var pauseArchive []byte
