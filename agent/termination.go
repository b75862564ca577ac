package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/agent/server/crilog"
	"nodelet/internal/model"
)

// Caps of termination messages, as users know them: of the file, and of what
// is taken from the log instead.
const (
	maxMessageFile  = 4096
	maxMessageLog   = 2048
	maxMessageLines = 80
	// logTail is how much of a log is read to find them; log lines carry a time stamp each.
	logTail = 32 * 1024
)

// termination reads what containers leave behind as their last words.
type termination struct{ podLogs string }

// addMessage adds the termination message to a container that has exited.
func (t termination) addMessage(c *model.Container, s *runtimev1.ContainerStatus, pod *model.PodRuntime) {
	if c.State != model.ContainerExited {
		return
	}
	message := t.file(s)
	policy := corev1.TerminationMessagePolicy(c.Annotations[podplan.AnnotationTerminationPolicy])
	if message == "" && c.ExitCode != 0 && policy == corev1.TerminationMessageFallbackToLogsOnError {
		path := c.LogPath
		if !filepath.IsAbs(path) {
			path = filepath.Join(t.podLogs, pod.Pod.Namespace+"_"+pod.Pod.Name+"_"+pod.UID.String(), path)
		}
		message = fromLog(path)
	}
	switch {
	case message == "":
	case c.Message == "":
		c.Message = message
	default:
		c.Message += ": " + message
	}
}

// file reads the file that is mounted at the container's terminationMessagePath.
func (t termination) file(s *runtimev1.ContainerStatus) string {
	path := s.GetAnnotations()[podplan.AnnotationTerminationPath]
	if path == "" {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = "/" + path
	}
	for _, m := range s.GetMounts() {
		if m.GetContainerPath() != path {
			continue
		}
		data, err := tail(m.GetHostPath(), maxMessageFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("Error on reading termination log %s: %v", m.GetHostPath(), err)
		}
		return string(data)
	}
	return ""
}

// tail reads the end of an ordinary file; the container that wrote it is not trusted.
func tail(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not an ordinary file", path)
	}
	from := max(info.Size()-limit, 0)
	return io.ReadAll(io.NewSectionReader(f, from, limit))
}

// fromLog gives the last lines that a container wrote.
func fromLog(path string) string {
	data, err := tail(path, logTail)
	if err != nil {
		return "" // there may be none, and there is nothing to do about it
	}
	if len(data) == logTail {
		_, data, _ = bytes.Cut(data, []byte("\n")) // the first line is cut
	}
	return lastWords(data)
}

// lastWords takes the text out of the end of a CRI log. Lines of both outputs
// may lie between the parts of one.
func lastWords(log []byte) string {
	var lines []string
	open := map[crilog.Stream]int{} // the line that goes on
	for raw := range bytes.Lines(log) {
		line, err := crilog.Parse(bytes.TrimSuffix(raw, []byte("\n")))
		if err != nil {
			continue
		}
		i, ok := open[line.Stream]
		if !ok {
			i = len(lines)
			open[line.Stream] = i
			lines = append(lines, "")
		}
		lines[i] += string(line.Text)
		if !line.Partial {
			lines[i] += "\n" // a last line that the container did not end has no end here, either
			delete(open, line.Stream)
		}
	}
	if len(lines) > maxMessageLines {
		lines = lines[len(lines)-maxMessageLines:]
	}
	text := strings.Join(lines, "")
	return text[max(len(text)-maxMessageLog, 0):]
}
