package broker

import (
	"maps"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Machine is what a Core needs of overlay.Machine.
type Machine interface {
	// Step takes one event and returns the actions; the slice is valid until the next Step.
	Step(now time.Time, ev any) []any
	// Route is the link towards a rank: down if it is in this broker's subtree, else up; false if there is none.
	Route(rank int32) (overlay.ConnID, bool)
	// Uplink is the link to the parent, if it stands.
	Uplink() (overlay.ConnID, bool)
	// Members lists what the leader knows; nil elsewhere.
	Members() []overlay.Member
}

// CoreConfig makes a Core.
type CoreConfig struct {
	Machine  Machine
	Overlay  overlay.Config    // as the machine got it
	Services []string          // names of the services that the host runs
	Await    []string          // those of them that an orderly stop waits for, beside "job" and "exec"
	Attrs    map[string]string // constant attributes
	// Stats measures the process; nil (a simulation) answers zeros.
	Stats     func() api.StatsRep
	StopLimit time.Duration // see Config
}

// Inputs of a Core, beside the transport's overlay.ConnUp, ConnData and ConnDown, overlay.Tick (the time asked for
// with overlay.WakeAt has come) and what services send (reactor.Sent, Reply, Withdrawn, Published, Subscribed, Notice).
type (
	// Begin is the first input.
	Begin struct{}
	// ClientUp: a client has connected. IDs start at reactor.FirstClient and are never used again.
	ClientUp struct {
		ID  uint64
		UID uint32
	}
	// ClientMsg: a client sent a message.
	ClientMsg struct {
		ID  uint64
		Msg *wire.Message
	}
	// ClientDown: a client is gone.
	ClientDown struct{ ID uint64 }
	// LogLine goes into the dmesg ring.
	LogLine api.DmesgLine
	// StopRequest begins an orderly stop, as Broker.Shutdown.
	StopRequest struct {
		Keep   bool
		Reason string
	}
)

// Outputs of a Core, beside the transport's overlay.Dial, Send and CloseConn, and overlay.WakeAt (one timer).
type (
	// ToService is an input for a hosted service: what reactor.Service lists, or a reactor.Reply for its reactor.Endpoint.
	ToService struct {
		Name string
		In   any
	}
	// ToClient is a message for a client.
	ToClient struct {
		ID  uint64
		Msg *wire.Message
	}
	// HoldClient says to stop reading from a client, or to go on: it has much outstanding.
	HoldClient struct {
		ID   uint64
		Hold bool
	}
	// DropClient ends a client's connection with a reason.
	DropClient struct {
		ID  uint64
		Err *wire.Error
	}
	// Joined tells that the broker has a rank and a way to the leader; again after each break.
	Joined struct {
		Rank  int32
		Epoch uint64
	}
	// Log is a line of the broker itself.
	Log reactor.Log
	// Exit ends the broker: in order (Err nil) or because it cannot be a member.
	Exit struct{ Err error }
)

// Core is a broker without its I/O: the overlay machine, the routing of messages and the services "broker", "event" and
// "leader". Step is called with one input at a time; Core has no goroutines and does not know what time it is.
type Core struct {
	cfg    CoreConfig
	dir    *reactor.Directory
	hosted map[string]bool // services that the host runs
	now    time.Time
	rank   int32 // wire.Any until joined
	epoch  uint64
	inLoop []inner
	acts   []any

	router
	events  events
	builtin map[string]*builtin
	order   []string // of builtin
	leader  *leaderService
	broker  *brokerService
	stop    stopper
	wakes   map[string]time.Time // of the machine ("") and the builtin services
	rewake  bool                 // they have changed since the host was asked
	wake    time.Time            // as asked of the host
}

// inner is something that Core does to itself when the present input has been dealt with.
type inner struct {
	svc string // a builtin service; "" = an event for the machine
	in  any
}

// builtin is a service that runs inside Core.
type builtin struct {
	svc reactor.Service
	ep  *reactor.Endpoint
	out reactor.Out
}

// leaderName is the service that only the leader has.
const leaderName = "leader"

// NewCore makes a Core.
func NewCore(cfg CoreConfig) *Core {
	c := &Core{cfg: cfg, rank: wire.Any, hosted: map[string]bool{}, builtin: map[string]*builtin{}, wakes: map[string]time.Time{}, router: newRouter()}
	c.cfg.Attrs = maps.Clone(cfg.Attrs)
	if c.cfg.Attrs == nil {
		c.cfg.Attrs = map[string]string{}
	}
	if cfg.Overlay.Leader {
		c.rank, c.epoch = cfg.Overlay.Rank, cfg.Overlay.Epoch
	}
	names := cfg.Services
	for _, n := range names {
		c.hosted[n] = true
	}
	c.broker = newBrokerService(c)
	c.events = events{core: c}
	own := []reactor.Service{c.broker, &c.events}
	if cfg.Overlay.Leader {
		c.leader = &leaderService{core: c}
		own = append(own, c.leader)
	}
	for _, s := range own {
		c.order = append(c.order, s.Name())
	}
	c.dir = reactor.NewDirectory(append(append([]string{}, names...), c.order...)...)
	for _, s := range own {
		c.builtin[s.Name()] = &builtin{svc: s, ep: reactor.NewEndpoint(c.dir, s.Name())}
	}
	c.stop = newStopper(c)
	return c
}

// Directory numbers all services of this broker; a host makes its reactor.Endpoints with it.
func (c *Core) Directory() *reactor.Directory { return c.dir }

// Rank is this broker's rank, or wire.Any before it has one.
func (c *Core) Rank() int32 { return c.rank }

// SetAttr sets a constant attribute that was not known at the start.
func (c *Core) SetAttr(name, value string) { c.cfg.Attrs[name] = value }

// Hosted tells whether the host runs a service of this name: messages between such services need not pass through the Core.
func (c *Core) Hosted(service string) bool { return c.hosted[service] }

// Step takes one input and returns what is to be done, in order. The slice is valid until the next Step.
func (c *Core) Step(now time.Time, in any) []any {
	c.now = now
	clear(c.acts)
	c.acts = c.acts[:0]
	c.input(in)
	for c.drain(); c.stop.check(); {
		c.drain()
	}
	c.setWake()
	return c.acts
}

// drain does what the input has led to, until there is no more.
func (c *Core) drain() {
	for i := 0; i < len(c.inLoop); i++ {
		it := c.inLoop[i]
		c.inLoop[i] = inner{}
		if h, ok := it.in.(heavyEnded); ok {
			c.nextHeavy(h.client)
		} else if it.svc == "" {
			c.machine(it.in)
		} else {
			c.turn(it.svc, it.in)
		}
	}
	c.inLoop = c.inLoop[:0]
}

// input sorts an input.
func (c *Core) input(in any) {
	switch in := in.(type) {
	case Begin:
		c.begin()
	case overlay.ConnUp, overlay.ConnData, overlay.ConnDown:
		c.machine(in)
	case overlay.Tick:
		c.tick()
	case ClientUp:
		c.clientUp(in)
	case ClientMsg:
		c.clientMsg(in)
	case ClientDown:
		c.clientDown(in.ID)
	case LogLine:
		c.broker.logLine(api.DmesgLine(in))
	case StopRequest:
		c.stop.request(in.Keep, in.Reason, 0)
	default:
		c.fromService(in)
	}
}

// fromService takes what a service, hosted or builtin, sends.
func (c *Core) fromService(in any) {
	switch in := in.(type) {
	case reactor.Sent:
		c.request(in.Req, in.Target, nil)
	case reactor.Reply:
		c.reply(in)
	case reactor.Withdrawn:
		c.withdraw(in)
	case reactor.Published:
		c.tell("event", in)
	case reactor.Subscribed:
		c.events.subscribe(in)
	case reactor.Notice:
		c.notice(in)
	}
}

// begin starts the machine and the builtin services.
func (c *Core) begin() {
	for _, name := range c.order {
		c.tell(name, reactor.Start{})
	}
	c.later(overlay.Begin{})
}

// later gives the machine an event when the present input has been dealt with.
func (c *Core) later(ev any) { c.inLoop = append(c.inLoop, inner{"", ev}) }

// tell gives a service of this broker an input.
func (c *Core) tell(svc string, in any) {
	switch {
	case c.builtin[svc] != nil:
		c.inLoop = append(c.inLoop, inner{svc, in})
	case c.hosted[svc]:
		c.emit(ToService{svc, in})
	}
}

func (c *Core) emit(act any) { c.acts = append(c.acts, act) }

func (c *Core) logf(level, msg string, kv ...any) { c.emit(Log{Level: level, Msg: msg, KV: kv}) }

// turn is one input of a builtin service.
func (c *Core) turn(name string, in any) {
	b := c.builtin[name]
	in, ok := b.ep.Accept(in)
	if !ok {
		return
	}
	b.svc.Handle(c.now, in, &b.out)
	items := b.out.Items
	b.out.Items = nil
	for _, item := range items {
		switch it := item.(type) {
		case reactor.WakeAt:
			c.setWakeOf(name, it.T)
		case reactor.Log:
			c.emit(Log(it))
		default:
			to, msg := b.ep.Dispatch(item, c.Hosted, c.rank)
			if msg != nil && to != "" {
				c.tell(to, msg)
			} else if msg != nil {
				c.fromService(msg)
			}
		}
	}
	b.out.Items = items[:0]
}

// notice is something that a service tells the broker.
func (c *Core) notice(n reactor.Notice) {
	if s, ok := n.Value.(api.Stopped); ok {
		c.stop.stopped(s.Name)
	}
}

// machine steps the overlay and carries its actions out.
func (c *Core) machine(ev any) {
	for _, act := range c.cfg.Machine.Step(c.now, ev) {
		c.action(act)
	}
}

// action carries out one action of the overlay.
func (c *Core) action(act any) {
	switch a := act.(type) {
	case overlay.Dial, overlay.Send, overlay.CloseConn:
		c.emit(act)
	case overlay.WakeAt:
		c.setWakeOf("", a.T)
	case overlay.Deliver:
		c.linkFrame(a.Link, a.Payload)
	case overlay.LinkUp:
		c.linkUp(a)
	case overlay.LinkDown:
		c.linkDown(a)
	case overlay.Joined:
		c.joined(a)
	case overlay.PathDown:
		c.pathDown()
	case overlay.MemberChange:
		c.memberChange(a.Member)
	case overlay.Departed:
		c.stop.departed()
	case overlay.Failed:
		c.stop.failed(a.Err)
	case overlay.Report:
		c.emit(Log{Level: a.Level, Msg: a.Msg, KV: a.KV})
	}
}

// joined: there is a way to the leader.
func (c *Core) joined(j overlay.Joined) {
	c.rank, c.epoch = j.Rank, j.Epoch
	c.tell("exec", api.Contact{Up: true, Rank: j.Rank, Epoch: j.Epoch, Incarnation: j.Path})
	c.emit(Joined{j.Rank, j.Epoch})
}

func (c *Core) pathDown() {
	c.tell("exec", api.Contact{Up: false, Rank: c.rank, Epoch: c.epoch})
}

// memberChange tells the leader's services.
func (c *Core) memberChange(m overlay.Member) {
	n := api.Membership{Rank: m.Rank, State: m.State.String(), UUID: m.UUID, Incarnation: m.Incarnation, Host: m.Info.Hostname,
		BootID: m.Info.BootID, PID: m.Info.PID, Reason: m.Reason, Resources: m.Info.Resources}
	c.tell("resource", n)
	c.tell("job", n)
	if c.leader != nil {
		c.tell(leaderName, memberChanged{m.Rank, m.State == overlay.Online})
	}
}

// setWakeOf sets the timer of a builtin service or of the machine ("").
func (c *Core) setWakeOf(name string, t time.Time) {
	c.rewake = true
	if t.IsZero() {
		delete(c.wakes, name)
		return
	}
	c.wakes[name] = t
}

// setWake asks for the earliest of all timers.
func (c *Core) setWake() {
	if !c.rewake {
		return
	}
	c.rewake = false
	var first time.Time
	for _, t := range c.wakes {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	if !first.Equal(c.wake) {
		c.wake = first
		c.emit(overlay.WakeAt{T: first})
	}
}

// tick wakes those whose time has come.
func (c *Core) tick() {
	c.wake, c.rewake = time.Time{}, true
	if c.due("") {
		c.machine(overlay.Tick{})
	}
	if c.due(stopTimer) {
		c.stop.timeout()
	}
	for _, name := range c.order {
		if c.due(name) {
			c.tell(name, reactor.Wake{})
		}
	}
}

func (c *Core) due(name string) bool {
	t, ok := c.wakes[name]
	if !ok || c.now.Before(t) {
		return false
	}
	delete(c.wakes, name)
	return true
}

// keyOf is a request's name among all outstanding ones.
func keyOf(p rpc.Peer, tag uint64) rpc.RequestKey { return rpc.RequestKey{Peer: p, Tag: tag} }
