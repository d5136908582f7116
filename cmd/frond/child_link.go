package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Events of a child instance.
type (
	evBrokerGone struct{ rank int }  // the parent knows that a broker's task has ended
	evRefused    struct{ err error } // the parent does not take this instance for its child
)

// parentLink is a child instance's way to its parent: by it the other brokers, tasks of the same job, find the leader (protocol:
// broker/api/child.go). As a launcher it starts nothing: the parent has.
type parentLink struct {
	child  *childStart
	info   *boot.Info
	events chan<- any
	ctx    context.Context
	cancel context.CancelFunc
	once   sync.Once
	done   sync.WaitGroup
}

func newParentLink(c *childStart, info *boot.Info, events chan<- any) *parentLink {
	l := &parentLink{child: c, info: info, events: events}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *parentLink) launch() error         { return nil }
func (l *parentLink) signal(syscall.Signal) {}
func (l *parentLink) left() bool            { return false }

func (l *parentLink) why(rank int) string {
	return fmt.Sprintf("task %d of job %s has not come, or cannot reach the leader; the log of its broker is in its run directory on its host", rank, l.child.Job)
}

func (l *parentLink) close() {
	l.cancel()
	l.done.Wait()
}

// post tells the parent where the leader is, now that it takes others, and listens to what it says, until the end.
func (l *parentLink) post() {
	l.once.Do(func() { l.done.Go(l.keepPosted) })
}

// tell gives the supervisor an event, as long as it takes any.
func (l *parentLink) tell(ev any) {
	select {
	case l.events <- ev:
	case <-l.ctx.Done():
	}
}

// linkPause is between two tries to reach the parent.
const linkPause = 200 * time.Millisecond

func (l *parentLink) keepPosted() {
	post, err := l.content()
	if err != nil {
		l.tell(evRefused{err})
		return
	}
	told := map[int]bool{}
	for l.ctx.Err() == nil {
		err := l.child.rendezvous(l.ctx, post, func(rep api.RendezvousRep) {
			for _, task := range rep.Gone {
				if !told[task] {
					told[task] = true
					l.tell(evBrokerGone{task})
				}
			}
			switch {
			case rep.Ends > 0:
				l.tell(evEnd{at: time.UnixMicro(int64(rep.Ends * 1e6)), grain: time.Millisecond})
			case rep.Ends < 0:
				l.tell(evEnd{})
			}
		})
		if refused(err) {
			l.tell(evRefused{fmt.Errorf("refused by the instance around this one: %w", err)})
			return
		}
		select {
		case <-time.After(linkPause):
		case <-l.ctx.Done():
		}
	}
}

// refused tells whether the parent will say the same again.
func refused(err error) bool {
	var told *wire.Error
	return errors.As(err, &told) && (told.Code == wire.Invalid || told.Code == wire.NotFound || told.Code == wire.BadProtocol)
}

// content is what the parent is told.
func (l *parentLink) content() (*api.ChildPost, error) {
	host, _ := os.Hostname()
	post := &api.ChildPost{URI: "ssh://" + host + strings.TrimPrefix(l.info.URI(0), "local://")}
	if l.child.Size == 1 {
		return post, nil
	}
	cert, err := os.ReadFile(l.info.CertFile())
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	t := boot.Ticket{Info: *l.info, Cert: string(cert), Meet: []string{l.info.TreeAddr(0)}}
	t.Info.RunDir = ""
	if l.info.Spread {
		if t.Meet, err = l.leaderAddrs(); err != nil {
			return nil, err
		}
	}
	text, err := t.Encode()
	post.Boot = []byte(text)
	return post, err
}

// leaderAddrs are the addresses at which other hosts may reach the leader.
func (l *parentLink) leaderAddrs() ([]string, error) {
	at, err := l.info.LoadLeader()
	if err != nil {
		return nil, err
	}
	addrs, err := interfaceAddrs(l.info.Interface)
	for i, a := range addrs {
		addrs[i] = "tcp://" + a + at[strings.LastIndexByte(at, ':'):]
	}
	return addrs, err
}

// rendezvous makes one call to the parent and gives each the answers, until the stream ends.
func (c *childStart) rendezvous(ctx context.Context, post *api.ChildPost, each func(api.RendezvousRep)) error {
	id, err := jobspec.ParseID(c.Job)
	if err != nil {
		return err
	}
	cl, err := client.Dial(ctx, c.uri, client.WithVersion(version), client.WithReconnect(time.Minute))
	if err != nil {
		return err
	}
	defer cl.Close()
	host, _ := os.Hostname()
	req := api.RendezvousReq{ID: id, Attempt: c.Attempt, Task: c.Task, Version: version, Host: host, Post: post}
	return stream(ctx, cl, api.Rendezvous, wire.Any, req, func(rep api.RendezvousRep) error {
		each(rep)
		return nil
	})
}

// find asks the parent for the leader, until it is there.
func (c *childStart) find(ctx context.Context) (*boot.Ticket, error) {
	for {
		var text []byte
		err := c.rendezvous(ctx, nil, func(rep api.RendezvousRep) { text = rep.Boot })
		switch {
		case text != nil:
			return boot.ParseTicket(string(text))
		case refused(err):
			return nil, fmt.Errorf("refused by the instance around this one: %w", err)
		}
		select {
		case <-time.After(linkPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("the leader of this instance, task 0 of job %s, did not come up: %w", c.Job, cmp.Or(err, ctx.Err()))
		}
	}
}

// reachable puts the address first at which the leader answers, and tells this host's own address on the way there.
func reachable(leaders []string) (addrs []string, local string, err error) {
	err = io.EOF
	for i, a := range leaders {
		var nc net.Conn
		if nc, err = net.DialTimeout("tcp", strings.TrimPrefix(a, "tcp://"), dialTry); err != nil {
			continue
		}
		local, _, _ = net.SplitHostPort(nc.LocalAddr().String())
		nc.Close()
		return append([]string{a}, append(leaders[:i:i], leaders[i+1:]...)...), local, nil
	}
	return nil, "", fmt.Errorf("no way to the leader at %s: %w", strings.Join(leaders, ", "), err)
}

// dialTry is how long one address of the leader is tried.
const dialTry = 3 * time.Second
