// Package broker is one broker of an instance: it routes messages between services, clients and the tree, serves "broker", "event" and
// "leader", and takes the broker from start to an orderly end.
//
// Core is the part that decides: it has no goroutines and no I/O, so that test/sim runs it on virtual time. Broker is
// the process around it: the transport, the local socket, one goroutine a service.
package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/local"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
	"go.uber.org/zap"
)

// Broker is a broker process's inside. Whoever has the turn, the lock mu, owns the Core, the transport and all that is not said to be
// another's. Run has it but while its loop sleeps. Then the goroutine that brings an input from a client or a neighbour takes it and
// deals with the input itself (enter): a message passes through an idle broker without a change of goroutine, each of which costs more
// than all else that is done for it.
type Broker struct {
	cfg   Config
	log   *zap.Logger
	inbox *reactor.Inbox[any]
	start time.Time

	mu    sync.Mutex // the turn
	batch []any      // memory for the inbox

	core      *Core
	host      *reactor.Host
	transport overlay.Transport
	server    *local.Server // nil until Rank is known
	serving   sync.WaitGroup
	conns     map[uint64]*local.Conn
	flush     map[*local.Conn][]*wire.Message // queued in this turn
	order     []*local.Conn                   // of flush
	posts     reactor.Post
	timer     *time.Timer
	ready     bool
	exit      *Exit
}

// New checks cfg and makes a broker. Nothing runs before Run.
func New(cfg Config) (*Broker, error) {
	if cfg.RunDir == "" {
		return nil, errors.New("make broker: RunDir is empty")
	}
	seen := map[string]bool{"broker": true, "event": true, leaderName: true}
	for _, s := range cfg.Services {
		if name := s.Service.Name(); seen[name] {
			return nil, fmt.Errorf("make broker: service %q is there twice", name)
		} else {
			seen[name] = true
		}
	}
	cfg.Overlay.Fanout = max(1, cfg.Overlay.Fanout)
	b := &Broker{cfg: cfg, inbox: reactor.NewInbox[any](), start: time.Now(), conns: map[uint64]*local.Conn{}, flush: map[*local.Conn][]*wire.Message{}}
	b.log = teeRing(cfg.Log, func(l LogLine) { b.inbox.Push(l) })
	return b, nil
}

// Logger is the broker's log: lines go to Config.Log and into the dmesg ring.
func (b *Broker) Logger() *zap.Logger { return b.log }

// Shutdown begins an orderly stop: of the whole instance on the leader (as leader.shutdown), elsewhere of this broker alone, which
// leaves the tree. It returns at once; Run returns when it is done.
func (b *Broker) Shutdown(keep bool, reason string) { b.inbox.Push(StopRequest{keep, reason}) }

// Run runs the broker until it has stopped in order (nil), it cannot be a member (the overlay's error), or ctx ends, which stops it at
// once without order (ctx's cause). It returns when all its goroutines have, but for those of the drivers, which are the caller's.
func (b *Broker) Run(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.open(); err != nil {
		return err
	}
	b.timer = time.NewTimer(time.Hour)
	b.timer.Stop()
	b.host.Start()
	b.step(Begin{})
	b.loop(ctx)
	b.timer.Stop()
	if b.server != nil {
		b.server.Close(b.lastWord())
		b.serving.Wait()
	}
	b.host.Stop()
	b.inbox.Close()
	var terr error
	if b.transport != nil {
		terr = b.transport.Close()
	}
	if b.exit == nil {
		return context.Cause(ctx)
	}
	return errors.Join(b.exit.Err, terr)
}

// lastWord is what clients are told at the end: after an orderly one that it is for good. Else nothing, so that those who may connect
// again try to: the supervisor restarts a leader.
func (b *Broker) lastWord() *wire.Error {
	if b.exit != nil && b.exit.Err == nil {
		return wire.Errorf(wire.Unavailable, "the broker of %s has stopped", b.uri())
	}
	return nil
}

// open makes the parts. The socket is bound here if the rank is known: before anything else can fail the user sees why.
func (b *Broker) open() error {
	if b.cfg.Transport != nil {
		if err := b.openTransport(); err != nil {
			return err
		}
	}
	if b.cfg.Overlay.Rank >= 0 {
		if err := b.listen(b.cfg.Overlay.Rank); err != nil {
			return errors.Join(err, b.closeTransport())
		}
	}
	cc := CoreConfig{Machine: overlay.New(b.cfg.Overlay), Overlay: b.cfg.Overlay, Attrs: b.attrs(), Stats: b.stats, StopLimit: b.cfg.StopLimit}
	for _, s := range b.cfg.Services {
		cc.Services = append(cc.Services, s.Service.Name())
		if s.Await {
			cc.Await = append(cc.Await, s.Service.Name())
		}
	}
	b.core = NewCore(cc)
	b.host = reactor.NewHost(reactor.HostConfig{Directory: b.core.Directory(), Router: b.inbox, Log: b.serviceLog()})
	for _, s := range b.cfg.Services {
		b.host.Add(s.Service, s.Driver)
	}
	if b.core.Rank() >= 0 {
		b.host.SetRank(b.core.Rank())
	}
	return nil
}

func (b *Broker) openTransport() error {
	t, err := b.cfg.Transport(func(evs []any) { b.enter(evs...) })
	if err != nil {
		return fmt.Errorf("open the tree's transport: %w", err)
	}
	b.transport = t
	if b.cfg.Listen == "" {
		return nil
	}
	addr, err := t.Listen(b.cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for brokers on %s: %w", b.cfg.Listen, err), t.Close())
	}
	b.cfg.Overlay.Info.Addr = addr
	return nil
}

func (b *Broker) closeTransport() error {
	if b.transport == nil {
		return nil
	}
	return b.transport.Close()
}

// SocketPath is where the broker of a rank has its local socket, and its URI.
func SocketPath(runDir string, rank int32) (path, uri string) {
	path = filepath.Join(runDir, strconv.Itoa(int(rank)), "local")
	return path, "local://" + path
}

func (b *Broker) uri() string {
	_, uri := SocketPath(b.cfg.RunDir, max(0, b.cfg.Overlay.Rank))
	return uri
}

// listen binds the local socket.
func (b *Broker) listen(rank int32) error {
	path, _ := SocketPath(b.cfg.RunDir, rank)
	b.cfg.Overlay.Rank = rank
	hello := api.Hello{Protocol: wire.Protocol, Version: b.cfg.Version, Host: b.cfg.hostname(), PID: os.Getpid(), Rank: rank}
	s, err := local.Listen(local.Config{Path: path, Hello: func() api.Hello { return hello }, Sink: sink{b}, FirstID: reactor.FirstClient,
		AllowUID: b.cfg.AllowUID, MaxClients: b.cfg.MaxClients, MaxUnread: b.cfg.MaxUnread,
		Warn: func(msg string, err error) { b.log.Named("local").Warn(msg, zap.Error(err)) }})
	if err != nil {
		return err
	}
	b.server = s
	return nil
}

// attrs are the attributes that do not change.
func (b *Broker) attrs() map[string]string {
	a := map[string]string{
		"version": b.cfg.Version, "rundir": b.cfg.RunDir, "hostname": b.cfg.hostname(), "broker.pid": strconv.Itoa(os.Getpid()),
		"broker.starttime": strconv.FormatFloat(epochSeconds(b.start), 'f', 2, 64), "instance-level": "0",
	}
	if b.cfg.Name != "" {
		a["instance-name"] = b.cfg.Name
	}
	if b.cfg.StateDir != "" {
		a["statedir"] = b.cfg.StateDir
	}
	if b.server != nil {
		a["local-uri"] = b.uri()
	}
	maps.Copy(a, b.cfg.Attrs)
	return a
}

// loop steps the core until it exits or ctx ends.
func (b *Broker) loop(ctx context.Context) {
	for b.exit == nil && ctx.Err() == nil {
		if b.takeTurn() {
			continue
		}
		b.mu.Unlock()
		tick := false
		select {
		case <-b.inbox.Wake():
		case <-b.timer.C:
			tick = true
		case <-ctx.Done():
		}
		b.mu.Lock()
		if tick && b.exit == nil {
			b.turn([]any{overlay.Tick{}})
		}
	}
}

// takeTurn deals with what is in the inbox; false if there is nothing.
func (b *Broker) takeTurn() bool {
	b.batch = b.inbox.Take(b.batch)
	b.turn(b.batch)
	return len(b.batch) > 0
}

// enter gives the broker inputs, from any goroutine, and if nobody has the turn deals with them. It does not wait for a turn: the caller may
// be inside one.
func (b *Broker) enter(ins ...any) {
	switch {
	case !b.inbox.Add(ins...): // those before are not dealt with either: someone will
	case !b.mu.TryLock():
		b.inbox.Signal()
	default:
		b.takeTurn()
		over := b.exit != nil
		b.mu.Unlock()
		if over {
			b.inbox.Signal()
		}
	}
}

// turnSize bounds how many inputs are dealt with before what they led to is passed on.
const turnSize = 256

// turn deals with a batch. Messages to clients and services go out together.
func (b *Broker) turn(batch []any) {
	for i, in := range batch {
		switch in := in.(type) {
		case connUp:
			b.conns[in.conn.ID] = in.conn
			b.step(ClientUp{in.conn.ID, in.conn.UID})
		case connMessages:
			for _, m := range in.msgs {
				b.step(ClientMsg{in.conn.ID, m})
			}
			in.conn.Handled(in.size)
		case connDown:
			delete(b.conns, in.conn.ID)
			b.step(ClientDown{in.conn.ID})
		default:
			b.step(in)
		}
		if i%turnSize == turnSize-1 {
			b.passOn()
		}
	}
	b.passOn()
}

// step gives the core one input and carries out what it says.
func (b *Broker) step(in any) {
	for _, act := range b.core.Step(time.Now(), in) {
		b.act(act)
	}
}

func (b *Broker) act(act any) {
	switch a := act.(type) {
	case ToService:
		if in := b.host.Inbox(a.Name); in != nil {
			b.posts.Add(in, a.In)
		}
	case ToClient:
		b.toClient(a)
	case HoldClient:
		if c := b.conns[a.ID]; c != nil {
			c.Hold(a.Hold)
		}
	case DropClient:
		if c := b.conns[a.ID]; c != nil {
			c.Drop(a.Err)
		}
	case overlay.WakeAt:
		b.wakeAt(a.T)
	case overlay.Dial, overlay.Send, overlay.CloseConn:
		b.transmit(act)
	case Joined:
		b.joined(a)
	case Log:
		b.line(reactor.Log(a))
	case Exit:
		b.exit = &a
	}
}

func (b *Broker) toClient(a ToClient) {
	c := b.conns[a.ID]
	if c == nil {
		return
	}
	if len(b.flush[c]) == 0 {
		b.order = append(b.order, c)
	}
	b.flush[c] = append(b.flush[c], a.Msg)
}

// passOn hands over what a turn has collected.
func (b *Broker) passOn() {
	b.posts.Flush()
	for i, c := range b.order {
		if msgs := b.flush[c]; len(msgs) == 1 && len(b.order) == 1 {
			c.SendNow(msgs[0])
		} else {
			c.Send(msgs...)
		}
		delete(b.flush, c)
		b.order[i] = nil
	}
	b.order = b.order[:0]
}

func (b *Broker) wakeAt(t time.Time) {
	if t.IsZero() {
		b.timer.Stop()
		return
	}
	b.timer.Reset(max(0, time.Until(t)))
}

func (b *Broker) transmit(act any) {
	if b.transport == nil {
		return
	}
	switch a := act.(type) {
	case overlay.Dial:
		b.transport.Dial(a.Conn, a.Addr)
	case overlay.Send:
		b.transport.Send(a.Conn, a.Frame)
	case overlay.CloseConn:
		b.transport.CloseConn(a.Conn)
	}
}

// joined opens the broker to clients the first time.
func (b *Broker) joined(j Joined) {
	b.host.SetRank(j.Rank)
	if b.ready {
		return
	}
	b.ready = true
	if b.server == nil {
		if err := b.listen(j.Rank); err != nil {
			b.exit = &Exit{err}
			return
		}
		b.core.SetAttr("local-uri", b.uri())
	}
	b.serving.Go(b.server.Serve)
	if b.cfg.Ready != nil {
		b.cfg.Ready(Info{Rank: j.Rank, Epoch: j.Epoch, URI: b.uri(), Addr: b.cfg.Overlay.Info.Addr})
	}
}

// What the socket tells the loop.
type (
	connUp       struct{ conn *local.Conn }
	connDown     struct{ conn *local.Conn }
	connMessages struct {
		conn *local.Conn
		msgs []*wire.Message
		size int
	}
)

// sink passes on what clients do.
type sink struct{ b *Broker }

func (s sink) ClientUp(c *local.Conn)   { s.b.enter(connUp{c}) }
func (s sink) ClientDown(c *local.Conn) { s.b.enter(connDown{c}) }
func (s sink) ClientMessages(c *local.Conn, msgs []*wire.Message, size int) {
	in := connMessages{c, msgs, size}
	if len(msgs) > 1 { // the client does not wait for each: to read on while the loop deals with them is worth its wake-up
		s.b.inbox.Push(in)
		return
	}
	s.b.enter(in)
}
