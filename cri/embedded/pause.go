package embedded

// PauseImage is the sandbox image's name. Its domain does not exist, so that it cannot be pulled by
// mistake, and CRI pins it, so that image collection leaves it. pauseArchive, one file per
// architecture, is made by `go generate`: see docs/adr/0007-pause.md.
const PauseImage = "nodelet.local/pause:1"

//go:generate go run ../../test/images -out . -arch amd64 -suffix _amd64 pause
//go:generate go run ../../test/images -out . -arch arm64 -suffix _arm64 pause
