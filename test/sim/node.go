package sim

import (
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/jobsvc"
	"github.com/frond-hpc/frond/broker/kvssvc"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/resourcesvc"
	"github.com/frond-hpc/frond/broker/schedsvc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/resource"
	"github.com/vmihailenco/msgpack/v5"
)

// home is the world of a broker process.
type home interface {
	clock() *loop
	note(who string, in any) // who gets an input
	logf(format string, args ...any)
	answer(n *node, a broker.ToClient)
	dropped(n *node, id uint64)
	exited(n *node, err error) // by itself
}

// node is one broker process: it lives until it crashes; the next process in its place is another node.
type node struct {
	home     home
	loop     *loop
	name     string // of its transport and its host
	uuid     string
	rank     int32
	alive    bool
	core     *broker.Core
	tree     overlay.Transport
	services map[string]*service
	wake     time.Time // the core's
	job      *jobsvc.Service
}

// service is one hosted service.
type service struct {
	n      *node
	svc    reactor.Service
	ep     *reactor.Endpoint
	driver reactor.Driver
	due    time.Time
	out    reactor.Out
}

func addr(name string) string { return "mem://" + name }

// boot makes a broker process. The leader opens the store.
func (w *world) boot(name string, rank int32, leader bool) *node {
	w.processes++
	n := &node{home: w, loop: &w.loop, name: name, uuid: fmt.Sprintf("%s-%d", name, w.processes), rank: rank, alive: true, services: make(map[string]*service)}
	cfg := overlay.Config{Rank: rank, Size: w.cfg.Brokers, Leader: leader, UUID: n.uuid, Fanout: w.cfg.Fanout, Rand: w.rng.Uint64(),
		Info: overlay.Info{Hostname: name, BootID: "sim", PID: w.processes, Version: "sim", Resources: w.resources(rank, name)}}
	n.tree = w.net.Transport(name, func(ev any) { n.post(ev) })
	a, err := n.tree.Listen(addr(name))
	w.must(err)
	cfg.Info.Addr = a
	var services []reactor.Service
	if leader {
		services = w.leaderServices(n, &cfg)
	} else {
		cfg.Parent, cfg.Fallback = w.parentOf(rank), []string{addr(w.leaderName())}
	}
	services = append(services, execsvc.New(w.execConfig(n)))
	drivers := map[string]reactor.Driver{"exec": w.execDriver(n)}
	if leader {
		drivers["kvs"], drivers["job"] = w.stored, w.watchStore(w.stored)
	}
	n.assemble(cfg, services, drivers)
	w.nodes[name] = n
	n.post(broker.Begin{})
	return n
}

// leaderServices opens the store and makes what only the leader has.
func (w *world) leaderServices(n *node, cfg *overlay.Config) []reactor.Service {
	leader, loaded := w.store.Open()
	w.stored = leader
	w.reload(loaded)
	for i := range loaded.Members {
		m := &loaded.Members[i]
		// As on one host: what is provably dead is known to be.
		if w.dead[m.UUID] && w.rng.IntN(2) == 0 || m.Rank == 0 {
			m.State = "dead"
		}
	}
	cfg.Epoch = loaded.Epoch
	for _, m := range loaded.Members {
		cfg.Known = append(cfg.Known, overlay.Member{Rank: m.Rank, UUID: m.UUID, State: overlay.Orphan})
	}
	js, err := jobsvc.New(jobsvc.Config{Loaded: loaded, Lease: lease, Size: w.cfg.Brokers, Now: w.Now()})
	w.must(err)
	n.job = js
	keys, err := kvssvc.New(kvssvc.Config{Loaded: leader.KVS()})
	w.must(err)
	w.must(keys.Check())
	return []reactor.Service{js, keys, schedsvc.New(schedsvc.Config{}), resourcesvc.New(resourcesvc.Config{})}
}

// resources are a broker's nodes: one, with the cores of the configuration.
func (w *world) resources(rank int32, name string) []byte {
	nodes := []resource.Node{{Index: int(rank), Name: name, Broker: rank, Cores: resource.MaskRange(0, w.cfg.Cores-1)}}
	b, err := msgpack.Marshal(nodes)
	w.must(err)
	return b
}

// assemble puts core and services together.
func (n *node) assemble(cfg overlay.Config, services []reactor.Service, drivers map[string]reactor.Driver) {
	var names []string
	for _, s := range services {
		names = append(names, s.Name())
	}
	n.core = broker.NewCore(broker.CoreConfig{Machine: overlay.New(cfg), Overlay: cfg, Services: names})
	for _, s := range services {
		n.services[s.Name()] = &service{n: n, svc: s, ep: reactor.NewEndpoint(n.core.Directory(), s.Name()), driver: drivers[s.Name()]}
	}
	for _, s := range services {
		sv := n.services[s.Name()]
		sv.soon(reactor.Start{})
	}
}

// post gives the core an input, in turn.
func (n *node) post(in any) { n.loop.ready = append(n.loop.ready, readyItem{core: n, in: in}) }

func (n *node) step(in any) {
	n.home.note(n.name, in)
	for _, act := range n.core.Step(n.loop.now, in) {
		n.act(act)
	}
}

func (n *node) act(act any) {
	switch a := act.(type) {
	case overlay.Dial:
		n.tree.Dial(a.Conn, a.Addr)
	case overlay.Send:
		n.tree.Send(a.Conn, a.Frame)
	case overlay.CloseConn:
		n.tree.CloseConn(a.Conn)
	case overlay.WakeAt:
		n.wakeAt(a.T)
	case broker.ToService:
		n.give(a.Name, a.In)
	case broker.ToClient:
		n.home.answer(n, a)
	case broker.DropClient:
		n.home.dropped(n, a.ID)
	case broker.Joined:
		n.rank = a.Rank
	case broker.Exit:
		n.home.exited(n, a.Err)
	}
}

func (n *node) wakeAt(t time.Time) {
	n.wake = t
	if t.IsZero() {
		return
	}
	n.loop.After(t.Sub(n.loop.now), func() {
		if n.alive && n.wake.Equal(t) {
			n.wake = time.Time{}
			n.step(overlay.Tick{})
		}
	})
}

// give hands an input to a hosted service, in turn.
func (n *node) give(name string, in any) {
	if sv := n.services[name]; sv != nil {
		sv.soon(in)
	}
}

func (s *service) soon(in any) { s.n.loop.ready = append(s.n.loop.ready, readyItem{svc: s, in: in}) }

func (n *node) hosts(name string) bool { return n.services[name] != nil }

func (s *service) handle(in any) {
	if !s.n.alive {
		return
	}
	in, ok := s.ep.Accept(in)
	if !ok {
		return
	}
	s.n.home.note(s.n.name, in)
	s.svc.Handle(s.n.loop.now, in, &s.out)
	items := s.out.Items
	s.out.Items = nil
	for _, item := range items {
		s.carryOut(item)
	}
	clear(items)
	s.out.Items = items[:0]
}

func (s *service) carryOut(item any) {
	switch it := item.(type) {
	case reactor.WakeAt:
		s.wakeAt(it.T)
	case reactor.Do:
		effect := it.Effect
		s.driver.Do(s.n.loop.now, effect, func(result any, err error) { s.soon(reactor.Done{Effect: effect, Result: result, Err: err}) })
	case reactor.Log:
		if it.Level == "error" {
			s.n.home.logf("%s %s: %s %v", s.n.name, s.svc.Name(), it.Msg, it.KV)
		}
	default:
		if to, msg := s.ep.Dispatch(item, s.n.hosts, s.n.rank); msg == nil {
			return
		} else if to != "" {
			s.n.give(to, msg)
		} else {
			s.n.post(msg)
		}
	}
}

func (s *service) wakeAt(t time.Time) {
	s.due = t
	if t.IsZero() {
		return
	}
	s.n.loop.After(t.Sub(s.n.loop.now), func() {
		if s.n.alive && s.due.Equal(t) {
			s.due = time.Time{}
			s.handle(reactor.Wake{})
		}
	})
}
