package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/wire"
)

// reconnectLimit is how long a command keeps trying when the broker is away: a leader is restarted in place.
const reconnectLimit = 30 * time.Second

// connect dials the instance, and checks what was parsed of elements of arrays.
func (e *env) connect(ctx context.Context) (*client.Client, error) {
	c, err := e.reach(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.checkElements(ctx, c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// reach dials the instance. A broker that does not answer although its instance is alive is about to be restarted: it gets time.
func (e *env) reach(ctx context.Context) (*client.Client, error) {
	uri, err := e.uri()
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(reconnectLimit); ; time.Sleep(20 * time.Millisecond) {
		c, err := e.dial(ctx, uri, client.WithReconnect(reconnectLimit))
		if err == nil || !transient(err) || !restarting(uri) || time.Now().After(end) || ctx.Err() != nil {
			return c, err
		}
	}
}

// dial connects to the broker at a URI of any scheme: local, tcp, ssh.
func (e *env) dial(ctx context.Context, uri string, opts ...client.DialOption) (*client.Client, error) {
	opts = append(opts, client.WithVersion(version), client.WithDialer("ssh", e.dialSSH), client.WithDialer("tcp", e.dialTCP), client.WithDialer(historyScheme, e.dialHistory))
	return client.Dial(ctx, uri, opts...)
}

// transient tells whether err may be that of a broker which is just dying or coming up: nobody answers, or the connection broke.
func transient(err error) bool {
	var told *wire.Error
	return !errors.As(err, &told) || told.Code == wire.Unavailable || told.Code == wire.Lost
}

// restarting tells whether uri is the leader's of an instance of this host that is alive: its run directory is held.
func restarting(uri string) bool {
	rundir, ok := strings.CutSuffix(strings.TrimPrefix(uri, "local://"), "/0/local")
	return ok && strings.HasPrefix(uri, "local:///") && boot.Held(rundir)
}

// connected runs f with a connection to the instance.
func (e *env) connected(ctx context.Context, f func(c *client.Client) error) error {
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

// rankTarget is the target of a call for --rank: a rank, or the broker that the client is connected to (or the nearest one above
// that has the service) for a negative one.
func rankTarget(rank int) int32 {
	if rank < 0 {
		return wire.Any
	}
	return int32(rank)
}

// call calls a method on a target.
func call[Req, Rep any](ctx context.Context, c *client.Client, m rpc.Method[Req, Rep], target int32, req Req) (Rep, error) {
	return client.Call(ctx, c, m, req, client.Rank(target))
}

// stream calls each with every answer of a stream until its end.
func stream[Req, Rep any](ctx context.Context, c *client.Client, m rpc.Method[Req, Rep], target int32, req Req, each func(Rep) error) error {
	s, err := client.Open(ctx, c, m, req, client.Rank(target))
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		rep, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = each(rep)
		}
		if err != nil {
			return err
		}
	}
}
