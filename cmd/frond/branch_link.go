package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// branchLink is a branch's connection with its parent: the driver of its service "branch". What is sent while there is none fails; the
// service says hello again.
type branchLink struct {
	uri    string
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu   sync.Mutex
	open *linkSession
}

// linkSession is one connection. What is sent goes out in order.
type linkSession struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	over  bool
	queue []linkItem
	wake  chan struct{} // one slot
}

// linkItem is something to send; lost is called instead if the session has ended.
type linkItem struct {
	send func(*client.Client)
	lost func()
}

func (s *linkSession) push(it linkItem) {
	s.mu.Lock()
	over := s.over
	if !over {
		s.queue = append(s.queue, it)
	}
	s.mu.Unlock()
	if over {
		it.lost()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send sends what is pushed, until the session ends.
func (s *linkSession) send(c *client.Client) {
	for {
		s.mu.Lock()
		items := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, it := range items {
			it.send(c)
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

// end tells those whose items were not sent.
func (s *linkSession) end() {
	s.cancel()
	s.mu.Lock()
	items := s.queue
	s.queue, s.over = nil, true
	s.mu.Unlock()
	for _, it := range items {
		it.lost()
	}
}

func newBranchLink(uri string) *branchLink {
	l := &branchLink{uri: uri}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// close ends all that is under way.
func (l *branchLink) close() {
	l.cancel()
	l.done.Wait()
}

// Do implements reactor.Driver.
func (l *branchLink) Do(_ time.Time, effect any, done func(any, error)) {
	switch e := effect.(type) {
	case *branchsvc.Open:
		s := &linkSession{wake: make(chan struct{}, 1)}
		s.ctx, s.cancel = context.WithCancel(l.ctx)
		l.mu.Lock()
		if l.open != nil {
			l.open.cancel()
		}
		l.open = s
		l.mu.Unlock()
		l.done.Go(func() { done(nil, l.listen(s, e.Hello, done)) })
	case *branchsvc.Send:
		l.push(linkItem{func(c *client.Client) {
			f := client.Go(l.ctx, c, api.BranchReport, e.Report)
			l.done.Go(func() { _, err := f.Wait(l.ctx); done(nil, err) })
		}, func() { done(nil, errLinkEnded) }})
	case *branchsvc.Top:
		l.push(linkItem{func(c *client.Client) {
			m := rpc.Method[msgpack.RawMessage, msgpack.RawMessage]{Topic: e.Topic}
			f := client.Go(l.ctx, c, m, msgpack.RawMessage(e.Body))
			l.done.Go(func() { body, err := f.Wait(l.ctx); done([]byte(body), err) })
		}, func() {
			done(nil, wire.Errorf(wire.Lost, "the parent of this branch, which has the queue, cannot be reached at the moment"))
		}})
	case *branchsvc.Answer:
		l.push(linkItem{func(c *client.Client) { client.Notify(l.ctx, c, api.BranchAnswer, e.Answer) }, func() {}}) // its loss is the session's
	}
}

// push has the present session send something.
func (l *branchLink) push(it linkItem) {
	l.mu.Lock()
	s := l.open
	l.mu.Unlock()
	if s == nil {
		l.done.Go(it.lost)
		return
	}
	s.push(it)
}

var errLinkEnded = errors.New("the parent has ended the session")

// listen passes the parent's orders on until the session ends.
func (l *branchLink) listen(s *linkSession, hello api.BranchHelloReq, done func(any, error)) error {
	defer s.end()
	c, err := client.Dial(s.ctx, l.uri, client.WithVersion(version))
	if err != nil {
		return err
	}
	defer c.Close()
	l.done.Go(func() { s.send(c) })
	err = stream(s.ctx, c, api.BranchHello, wire.Any, hello, func(o api.BranchOrder) error {
		done(o, nil)
		return nil
	})
	if err == nil || errors.Is(err, io.EOF) {
		err = errLinkEnded
	}
	return err
}

// branchMake says how this instance's branches are started.
func branchMake(info *boot.Info) branchsvc.Make {
	environ := slices.DeleteFunc(brokerEnviron(os.Environ()), func(kv string) bool { return strings.ContainsRune(kv, 0) || strings.HasPrefix(kv, "=") })
	m := branchsvc.Make{Command: []string{"frond", "child", "--stay"}, State: info.StateDir + "/branch", Size: info.Size, Split: info.Split}
	for _, opt := range []struct{ name, value string }{{"lease", strconv.FormatFloat(info.Lease, 'f', -1, 64) + "s"}, {"policy", info.Policy}, {"prolog", info.Prolog}, {"epilog", info.Epilog}} {
		if opt.value != "" {
			m.Command = append(m.Command, "--"+opt.name+"="+opt.value)
		}
	}
	for _, kv := range environ {
		m.Env = append(append(m.Env, kv...), 0)
	}
	return m
}

// branchUplink says what this instance is to its parent; nil = it is no branch.
func branchUplink(info *boot.Info) *branchsvc.Uplink {
	if info.Branch == "" {
		return nil
	}
	n, _ := strconv.Atoi(info.Branch[strings.LastIndexByte(info.Branch, '.')+1:]) // was checked at start
	return &branchsvc.Uplink{Branch: n, Path: info.Branch, Key: info.JobID, Nodes: info.Size}
}
