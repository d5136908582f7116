// Package client speaks to an instance: it dials the broker's socket, calls methods and opens streams. All of it may be used
// from several goroutines at once; calls are pipelined on one connection.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
)

// Dialer makes the connection for a URI of a scheme that this package does not know (tcp, ssh).
type Dialer func(ctx context.Context, uri string) (net.Conn, error)

type dialConfig struct {
	reconnect time.Duration
	dialers   map[string]Dialer
	buffer    int
	version   string
}

// DialOption changes Dial.
type DialOption func(*dialConfig)

// WithReconnect dials again for up to d when the connection is lost (a leader may be restarted in place). What is outstanding and
// idempotent is sent again, streams from their beginning (Stream.Restarts tells); the rest fails with wire.Lost. It
// also repeats idempotent calls that were Lost, or found a rank or the leader Unreachable, on their way through the tree.
func WithReconnect(d time.Duration) DialOption { return func(c *dialConfig) { c.reconnect = d } }

// WithDialer adds a scheme, such as "tcp".
func WithDialer(scheme string, d Dialer) DialOption {
	return func(c *dialConfig) { c.dialers[scheme] = d }
}

// WithStreamBuffer sets how many bytes of unread answers one stream holds before it makes the socket wait or, if that would
// hold up others, ends with wire.TooLarge. Default 64 MiB.
func WithStreamBuffer(n int) DialOption { return func(c *dialConfig) { c.buffer = n } }

// WithVersion sets the program version said in the hello.
func WithVersion(v string) DialOption { return func(c *dialConfig) { c.version = v } }

// Dial connects to the broker that uri names (FROND_URI: local:///path/of/socket) and exchanges hellos. The errors say what to do.
func Dial(ctx context.Context, uri string, opts ...DialOption) (*Client, error) {
	cfg := dialConfig{dialers: map[string]Dialer{"local": dialLocal}, buffer: 64 << 20}
	for _, o := range opts {
		o(&cfg)
	}
	c := newClient(uri, cfg)
	s, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.start(s)
	return c, nil
}

// dialLocal connects to a unix socket.
func dialLocal(ctx context.Context, uri string) (net.Conn, error) {
	path := strings.TrimPrefix(uri, "local://")
	if !strings.HasPrefix(path, "/") {
		return nil, wire.Errorf(wire.Invalid, "%q is no URI of an instance: want local:///path/of/socket", uri)
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return nc, nil
	}
	return nil, explainDial(uri, path, err)
}

// explainDial makes a sentence for the user of a failed dial.
func explainDial(uri, path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &dialError{wire.Unavailable, fmt.Sprintf("no instance at %s: broker socket %s was not found (has the instance ended? see frond list)", uri, path), err}
	case errors.Is(err, os.ErrPermission):
		return &dialError{wire.Denied, fmt.Sprintf("no access to the instance at %s: its run directory belongs to another user", uri), err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("connect to %s: %w", uri, err)
	}
	return &dialError{wire.Unavailable, fmt.Sprintf("no instance at %s: nobody answers at broker socket %s (its broker has ended): %v", uri, path, err), err}
}

// dialError keeps a code and the cause beside a sentence for the user.
type dialError struct {
	code  wire.Code
	text  string
	cause error
}

func (e *dialError) Error() string { return e.text }
func (e *dialError) Unwrap() []error {
	return []error{&wire.Error{Code: e.code, Text: e.text}, e.cause}
}

// dialer picks the dialer of the URI's scheme.
func (c *Client) dialer() (Dialer, error) {
	scheme, _, ok := strings.Cut(c.uri, "://")
	if d := c.cfg.dialers[scheme]; ok && d != nil {
		return d, nil
	}
	return nil, wire.Errorf(wire.Invalid, "%q is no URI of an instance: want local:///path/of/socket (FROND_URI)", c.uri)
}
