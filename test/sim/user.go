package sim

import (
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// user submits through a client of the leader, keeps sending what was not answered, and cancels some.
type user struct {
	w       *world
	client  uint64 // endpoint at the present leader; 0 = not connected
	clients uint64
	tag     uint64
	todo    []*submission // not yet sent
	waiting map[uint64]*submission
	known   map[jobspec.ID]int // submitted: id → elements
	order   []jobspec.ID
	held    map[jobspec.ID]bool       // that it has held at some time
	params  map[jobspec.ID]string     // of arrays: the first of their elements' parameters, the submission's token; "" = they have none
	rules   map[string]rules          // of submissions by token
	limited map[jobspec.ID]jobspec.ID // what runs of arrays with a limit, and its array
	runs    map[jobspec.ID]int        // how many
}

// submission is one request.
type submission struct {
	token string
	items []api.SubmitItem
	parts []api.ParamsReq // parameters that are not uploaded yet
	rules rules
	sent  bool // once: what it depends on is settled
}

func newUser(w *world) *user {
	u := &user{w: w, clients: reactor.FirstClient, waiting: make(map[uint64]*submission), known: make(map[jobspec.ID]int), held: make(map[jobspec.ID]bool), params: make(map[jobspec.ID]string), rules: make(map[string]rules),
		limited: make(map[jobspec.ID]jobspec.ID), runs: make(map[jobspec.ID]int)}
	left := w.cfg.Jobs
	for i := 0; left > 0; i++ {
		s := &submission{token: fmt.Sprintf("%d-%d", w.now.UnixMilli(), i)}
		left -= u.fill(s, left)
		u.todo = append(u.todo, s)
	}
	return u
}

// fill makes a submission of at most left elements and returns how many it has.
func (u *user) fill(s *submission, left int) int {
	w := u.w
	spec := simSpec(1, 1, w.rng.IntN(10) > 0)
	if w.rng.IntN(2) == 0 {
		n := min(left, 1+w.rng.IntN(max(w.cfg.Jobs/100, 2)))
		s.items = []api.SubmitItem{{Spec: spec, N: n, Urgency: 16}}
		if w.rng.IntN(2) == 0 {
			s.withParams(w.rng.IntN)
			// A limit that grows with the array: else the run's end would be a few elements at a time, for minutes of virtual time.
			s.rules = rules{Retries: w.rng.IntN(3), Limit: w.rng.IntN(2) * (1 + n/4 + w.rng.IntN(20)), MaxFails: w.rng.IntN(2) * (1 + w.rng.IntN(5))}
			s.items[0].Spec = s.rules.spec(spec)
			u.rules[s.token] = s.rules
		}
		return n
	}
	n := min(left, 1+w.rng.IntN(50))
	for range n {
		it := api.SubmitItem{Spec: spec, Urgency: 8 + w.rng.IntN(16)}
		if w.rng.IntN(20) == 0 && w.cfg.Brokers >= 8 {
			it.Spec = simSpec(2+w.rng.IntN(3), 1, w.rng.IntN(10) > 0)
		}
		s.items = append(s.items, it)
	}
	return n
}

// simSpec is a jobspec of nodes (1 = a slot anywhere) with cores each.
func simSpec(nodes, cores int, rerun bool) []byte {
	slot := fmt.Sprintf(`{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":%d}]}`, cores)
	if nodes > 1 {
		slot = fmt.Sprintf(`{"type":"node","count":%d,"with":[%s]}`, nodes, slot)
	}
	return fmt.Appendf(nil, `{"version":1,"resources":[%s],"tasks":[{"command":["sim"],"slot":"task","count":{"per_slot":1}}],`+
		`"attributes":{"system":{"duration":0,"rerun":%v}}}`, slot, rerun)
}

// connect opens a client at the leader and sends again what was not answered, then the rest over time.
func (u *user) connect() {
	u.clients++
	u.client = u.clients
	u.w.leader.post(broker.ClientUp{ID: u.client})
	again := u.waiting
	u.waiting = make(map[uint64]*submission)
	for tag := uint64(0); tag <= u.tag; tag++ {
		if s := again[tag]; s != nil {
			u.send(s)
		}
	}
	u.next(u.client)
}

// next sends the next submission, as long as this connection lasts.
func (u *user) next(client uint64) {
	if u.client != client || len(u.todo) == 0 {
		return
	}
	s := u.todo[0]
	u.todo = u.todo[1:]
	if !s.sent {
		s.sent = true
		u.follow(s)
		u.depend(s)
	}
	u.send(s)
	u.w.After(time.Duration(u.w.rng.Int64N(int64(100*time.Millisecond))), func() { u.next(client) })
}

func (u *user) send(s *submission) {
	u.tag++
	u.waiting[u.tag] = s
	if len(s.parts) > 0 {
		u.call(api.Params.Topic, u.tag, s.parts[0])
		return
	}
	u.call(api.Submit.Topic, u.tag, api.SubmitReq{Token: s.token, Items: s.items})
}

func (u *user) call(topic string, tag uint64, body any) {
	b, err := msgpack.Marshal(body)
	u.w.must(err)
	u.w.leader.post(broker.ClientMsg{ID: u.client, Msg: &wire.Message{Type: wire.Request, Topic: topic, Target: wire.Any, Tag: tag, Body: b}})
}

// answer takes what the leader answers.
func (u *user) answer(n *node, a broker.ToClient) {
	s := u.waiting[a.Msg.Tag]
	if n != u.w.leader || a.ID != u.client || s == nil {
		return
	}
	delete(u.waiting, a.Msg.Tag)
	if a.Msg.Code != wire.OK {
		if a.Msg.Code != wire.Lost && a.Msg.Code != wire.Unavailable {
			u.w.fail("submission refused: %s", a.Msg.Text)
		}
		u.w.After(time.Second, func() { u.resend(s) })
		return
	}
	if len(s.parts) > 0 {
		s.parts = s.parts[1:]
		u.resend(s)
		return
	}
	var rep api.SubmitRep
	u.w.must(msgpack.Unmarshal(a.Msg.Body, &rep))
	for i, id := range rep.IDs {
		if _, twice := u.known[id]; twice {
			u.w.fail("id %v is given twice", id)
		}
		u.known[id] = max(s.items[i].N, 1)
		u.expectParams(id, map[bool]string{true: s.token}[s.items[i].Params])
		u.order = append(u.order, id)
	}
	if u.w.rng.IntN(30) == 0 {
		id := rep.IDs[u.w.rng.IntN(len(rep.IDs))]
		u.w.After(time.Duration(u.w.rng.Int64N(int64(20*time.Second))), func() { u.cancel(id) })
	}
}

func (u *user) resend(s *submission) {
	if u.client == 0 {
		u.todo = append([]*submission{s}, u.todo...)
		return
	}
	u.send(s)
}

func (u *user) cancel(id jobspec.ID) {
	if u.client != 0 {
		u.tag++
		u.call(api.Raise.Topic, u.tag, api.RaiseReq{IDs: []jobspec.ID{id}, Type: "cancel"})
	}
}

// brokerDead has the supervisor tell the leader of a dead process.
func (u *user) brokerDead(n *node) {
	if u.client != 0 && n.rank > 0 {
		u.tag++
		u.call(api.BrokerDead.Topic, u.tag, api.BrokerDeadReq{Rank: n.rank})
	}
}

func (u *user) lost() { u.client = 0 }

func (u *user) dropped(n *node, id uint64) {
	if n == u.w.leader && id == u.client {
		u.w.fail("the user's client was dropped")
	}
}

func (u *user) answered() bool { return len(u.todo) == 0 && len(u.waiting) == 0 }

func (u *user) open() int { return len(u.todo) + len(u.waiting) }

// elementID is the id of an element of a submission that may not be answered yet.
func (u *user) elementID(arr jobspec.ID, i int) jobspec.ID {
	if u.w.oracle.sizes[arr] == 1 {
		return arr
	}
	return arr + 1 + jobspec.ID(i)
}

// elements lists the ids of all elements.
func (u *user) elements() []jobspec.ID {
	var ids []jobspec.ID
	for _, id := range u.order {
		n := u.known[id]
		for i := range n {
			if n == 1 {
				ids = append(ids, id)
			} else {
				ids = append(ids, id+1+jobspec.ID(i))
			}
		}
	}
	return ids
}
