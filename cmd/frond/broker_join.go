package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/curve"
	"github.com/frond-hpc/frond/overlay/meet"
	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/vmihailenco/msgpack/v5"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// membership is how a broker that was started on another host belongs to its instance: the connection to its supervisor, and what
// that has said.
type membership struct {
	ticket *boot.Ticket
	text   string // of the ticket, for others
	keys   curve.Keys
	report meet.Report
	place  meet.Place
	leader string // its address as it says
	nodes  []resource.Node

	reported chan struct{} // closed when there is a connection

	mu sync.Mutex
	c  *meet.Conn
}

func (m *membership) conn() *meet.Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.c
}

// joinAndServe is the life of a broker that was started with a ticket.
func (o *brokerOptions) joinAndServe(ctx context.Context, e *env) error {
	var in io.Reader
	var more *treeOrder
	switch {
	case o.ticket == "-":
		text, m, err := readOrder(e.stdin)
		if err != nil {
			return err
		}
		in, more = strings.NewReader(text), m
	case o.ticket != "":
		os.Setenv(boot.TicketFileEnv, o.ticket) // which counts if it did not come in the environment
	}
	ticket, err := boot.TakeTicket(in)
	if err != nil {
		return err
	}
	m, err := newMembership(e, ticket, o.rank)
	if err != nil {
		return err
	}
	leaveOuter()
	if more != nil {
		m.launchMore(more)
	}
	if err := m.reportIn(ctx); err != nil {
		return err
	}
	close(m.reported)
	err = m.serve(ctx, e)
	m.ended(err)
	return err
}

// newMembership says who this is.
func newMembership(e *env, t *boot.Ticket, rank int) (*membership, error) {
	keys, err := curve.ParseKeys([]byte(t.Cert))
	if err != nil {
		return nil, fmt.Errorf("the ticket's certificate: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find out the host's name: %w", err)
	}
	if n, err := strconv.Atoi(e.getenv("SLURM_PROCID")); err == nil && rank < 0 {
		rank = n
	}
	if task, err := outer.Started(e.getenv); err == nil && task != nil && rank < 0 {
		rank = task.Rank
	}
	text, err := t.Encode()
	if err != nil {
		return nil, err
	}
	return &membership{ticket: t, text: text, keys: keys, reported: make(chan struct{}), report: meet.Report{Protocol: wire.Protocol, Version: version, ID: t.Info.ID,
		UUID: fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()), Rank: rank, Host: host, Node: e.getenv("SLURMD_NODENAME"),
		BootID: boot.BootID(), PID: os.Getpid(), Clock: float64(time.Now().UnixMicro()) / 1e6}}, nil
}

// leaveOuter takes out of this process's environment what describes a task of an outer scheduler: it is for none of those that start here.
func leaveOuter() {
	keep := outer.BrokerEnviron(os.Environ())
	for _, kv := range os.Environ() {
		if !slices.Contains(keep, kv) {
			name, _, _ := strings.Cut(kv, "=")
			os.Unsetenv(name)
		}
	}
}

// reportIn connects to the supervisor and learns this broker's place.
func (m *membership) reportIn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	for {
		err := m.dial(ctx)
		if err == nil {
			return nil
		}
		var r refusedError
		if errors.As(err, &r) || errors.Is(err, curve.ErrDenied) || ctx.Err() != nil {
			return err
		}
		select { // it may have too many guests at once
		case <-time.After(200*time.Millisecond + rand.N(300*time.Millisecond)):
		case <-ctx.Done():
			return err
		}
	}
}

// refusedError: the supervisor does not want this broker.
type refusedError string

// Error says why.
func (r refusedError) Error() string { return "refused by the instance: " + string(r) }

// dial makes a connection and waits for its first order.
func (m *membership) dial(ctx context.Context) error {
	c, err := meet.Dial(ctx, m.ticket.Meet, m.keys, m.report)
	if err != nil {
		return err
	}
	order, err := c.Next()
	switch {
	case err != nil:
		c.Close()
		return fmt.Errorf("the one who starts the instance went away: %w", err)
	case order.Refused != "":
		c.Close()
		return refusedError(order.Refused)
	case order.Place == nil || order.Stop:
		c.Close()
		return refusedError("it is ending")
	}
	m.place = *order.Place
	if order.Leader != "" {
		m.leader = order.Leader
	}
	m.mu.Lock()
	m.c = c
	m.mu.Unlock()
	return nil
}

// serve makes the run directory, waits for the leader and is a broker of its instance.
func (m *membership) serve(ctx context.Context, e *env) error {
	info := m.ticket.Info
	var end earlyEnd // nothing is made before it is caught
	defer catchTermination(end.come)()
	dir, err := boot.ShareRunDir(e.getenv, &info, m.place.Rank, m.ticket.Cert)
	if err != nil {
		return err
	}
	defer dir.Leave()
	if err := logTo(info.LogFile(m.place.Rank)); err != nil {
		return err
	}
	if err := os.Chdir(info.BrokerDir(m.place.Rank)); err != nil {
		return fmt.Errorf("enter run directory: %w", err)
	}
	if err := m.offer(&info); err != nil {
		return err
	}
	end.by(func(os.Signal) { m.tellTerminated() })
	for m.leader == "" {
		order, err := m.conn().Next()
		if err != nil {
			return fmt.Errorf("wait for the leader: %w", err)
		}
		if order.Stop {
			return nil
		}
		m.leader = order.Leader
	}
	p := &brokerProcess{info: &info, rank: int32(m.place.Rank), join: &joinWay{m.leaderAddrs(), m.conn().Local(), m.joined}, log: newLog(e.stderr), rush: tuneRush(e)}
	return p.run(ctx, func(b *broker.Broker, cancel context.CancelCauseFunc) (release func()) {
		go m.watch(b, cancel)
		end.by(func(sig os.Signal) {
			p.driver.Interrupted()
			m.terminated(b, sig)
		})
		return func() {}
	})
}

// logTo puts what this process prints into a file.
func logTo(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	return errors.Join(unix.Dup2(int(f.Fd()), 1), unix.Dup2(int(f.Fd()), 2))
}

// offer finds out what this broker has, or takes what it was told.
func (m *membership) offer(info *boot.Info) error {
	data := m.place.Resources
	if data == nil {
		node, err := hostNode(m.place)
		if err != nil {
			return err
		}
		m.nodes = []resource.Node{node}
		if data, err = msgpack.Marshal(m.nodes); err != nil {
			return fmt.Errorf("encode resources: %w", err)
		}
	} else if err := msgpack.Unmarshal(data, &m.nodes); err != nil {
		return fmt.Errorf("decode resources: %w", err)
	}
	return info.SaveResources(m.place.Rank, data)
}

// leaderAddrs are where the leader may be reached: on the address by which the supervisor was, and on that which it gives.
func (m *membership) leaderAddrs() []string {
	addrs := []string{m.leader}
	if _, port, err := net.SplitHostPort(strings.TrimPrefix(m.leader, "tcp://")); err == nil && m.ticket.Info.Interface == "" {
		if a := "tcp://" + net.JoinHostPort(m.conn().Remote(), port); a != m.leader {
			addrs = []string{a, m.leader}
		}
	}
	return addrs
}

// joined tells the supervisor what it has got.
func (m *membership) joined(addr string) {
	j := meet.Joined{Addr: addr}
	for _, n := range m.nodes {
		j.Cores += n.Cores.Count()
		j.GPUs += n.GPUs.Count()
		j.MemMiB += n.MemMiB
	}
	m.conn().Say(meet.Word{Joined: &j})
}

// ended tells the supervisor why this process ends.
func (m *membership) ended(err error) {
	w := meet.Word{Ended: true}
	if err != nil {
		w.Error = err.Error()
	}
	c := m.conn()
	c.Say(w)
	c.Close()
}

// redialLimit is how long a broker that has lost its supervisor looks for it.
const redialLimit = 20 * time.Second

// watch follows the supervisor's orders. When the connection ends, either the network has failed or the supervisor is dead: then nobody
// answers where it was, and this broker ends as one of the supervisor's host would.
func (m *membership) watch(b *broker.Broker, cancel context.CancelCauseFunc) {
	for {
		order, err := m.conn().Next()
		switch {
		case err == nil && order.Stop:
			b.Shutdown(true, "told to")
		case err != nil && !m.redial():
			b.Logger().Warn("the supervisor is gone", zap.Error(err))
			cancel(errOrphaned)
			time.Sleep(orphanLimit)
			os.Exit(1)
		}
	}
}

func (m *membership) redial() bool {
	ctx, cancel := context.WithTimeout(context.Background(), redialLimit)
	defer cancel()
	for {
		err := m.dial(ctx)
		if err == nil {
			return true
		}
		var r refusedError
		if errors.As(err, &r) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, curve.ErrDenied) || ctx.Err() != nil {
			return false
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// terminated: an outer scheduler sends TERM to all that it has started, which means the whole instance. It ends by its supervisor; if
// that does not see to it, by itself.
func (m *membership) terminated(b *broker.Broker, sig os.Signal) {
	m.tellTerminated()
	time.AfterFunc(leaderLimit, func() { b.Shutdown(true, sig.String()) })
}

func (m *membership) tellTerminated() { m.conn().Say(meet.Word{Signal: int(unix.SIGTERM)}) }
