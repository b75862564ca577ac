package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// The fifth remote command protocol exists over WebSocket only: it can close one stream. Runtimes
// speak the fourth, where SPDY can do that, too; so one is translated into the other.
const (
	protocolV5 = "v5.channel.k8s.io"
	protocolV4 = "v4.channel.k8s.io"

	// spdyPing keeps a connection to the runtime from looking idle.
	spdyPing = 5 * time.Second
	// statusWait is how long a client has for the last word of a stream.
	statusWait = 10 * time.Second
)

// The channels of the WebSocket protocol, which are the names of SPDY streams as well.
const (
	chStdin = iota
	chStdout
	chStderr
	chError
	chResize
)

var channelNames = [...]string{"stdin", "stdout", "stderr", "error", "resize"}

// translate joins a WebSocket client of the fifth protocol to the runtime's SPDY server.
func (s *Server) translate(w http.ResponseWriter, r *http.Request, location *url.URL, opts streamOptions) error {
	up, err := dial(r.Context(), location, http.MethodPost, spdyHeader(protocolV4))
	if err != nil {
		return err
	}
	conn, err := spdy.NewClientConnectionWithPings(up, spdyPing)
	if err != nil {
		return fmt.Errorf("speak SPDY with the runtime: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(r.Context(), func() { _ = conn.Close() })()
	ws := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{protocolV5: {Binary: true, Channels: opts.channels()}})
	ws.SetIdleTimeout(s.cfg.IdleTimeout)
	_, client, err := ws.Open(w, r)
	if err != nil {
		s.deps.Log.Debug("kubelet API: open a websocket", "err", err)
		return nil // it has been answered
	}
	defer ws.Close()
	status := carry(conn, client, opts)
	ws.SetWriteDeadline(statusWait)
	if _, err := client[chError].Write(status); err != nil {
		s.deps.Log.Debug("kubelet API: write the end of a stream", "err", err)
	}
	return nil
}

// channels says which way each channel goes.
func (o streamOptions) channels() []wsstream.ChannelType {
	when := func(yes bool, kind wsstream.ChannelType) wsstream.ChannelType {
		if yes {
			return kind
		}
		return wsstream.IgnoreChannel
	}
	return []wsstream.ChannelType{
		chStdin: when(o.stdin, wsstream.ReadChannel), chStdout: when(o.stdout, wsstream.WriteChannel),
		chStderr: when(o.stderr, wsstream.WriteChannel), chError: wsstream.WriteChannel, chResize: wsstream.ReadChannel,
	}
}

// carry carries all streams until the command has ended; it gives what the runtime says of the end.
func carry(upstream httpstream.Connection, client []io.ReadWriteCloser, opts streamOptions) []byte {
	open := func(channel int) (httpstream.Stream, error) {
		return upstream.CreateStream(http.Header{"streamType": {channelNames[channel]}})
	}
	last, err := open(chError)
	if err != nil {
		return failure(err)
	}
	if err := last.Close(); err != nil { // nothing is said on it by us
		return failure(err)
	}
	var output sync.WaitGroup
	resize := io.Discard
	for channel, wanted := range [...]bool{chStdin: opts.stdin, chStdout: opts.stdout, chStderr: opts.stderr, chError: false, chResize: opts.tty} {
		if !wanted {
			continue
		}
		stream, err := open(channel)
		if err != nil {
			return failure(err)
		}
		switch channel {
		case chStdin:
			go func() {
				_, _ = io.Copy(stream, client[chStdin]) // ends with the client, the stream or the half-close
				_ = stream.Close()
			}()
		case chResize:
			resize = stream
		default:
			output.Go(func() { _, _ = io.Copy(client[channel], stream) }) // ends with either side
		}
	}
	go func() {
		// Nobody closes this channel by itself: its end is the end of the client.
		_, _ = io.Copy(resize, client[chResize])
		_ = upstream.Close()
	}()
	status, err := io.ReadAll(io.LimitReader(last, maxBody))
	if err != nil {
		_ = upstream.Close()
	}
	output.Wait()
	switch {
	case err != nil:
		return failure(err)
	case len(status) == 0:
		return failure(errors.New("the runtime ended the stream without saying why"))
	}
	return status
}

// failure is a status that says what went wrong on the way.
func failure(err error) []byte {
	b, encodeErr := json.Marshal(&metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError, Message: err.Error(),
	})
	if encodeErr != nil {
		return nil
	}
	return b
}
