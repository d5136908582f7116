package branchsvc

import (
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Uplink says what a branch is to its parent.
type Uplink struct {
	Branch int
	Path   string // its name within all branches
	Key    string
	Nodes  int // that it waits for before it says hello
}

// Effects for the driver, which is a client of the parent.
type (
	// Open opens a new stream in place of the one before. Each order is a Done with an api.BranchOrder, the end one with an error.
	Open struct{ Hello api.BranchHelloReq }
	// Send sends a report.
	Send struct{ Report api.BranchReportReq }
	// Top asks the parent; its Done has the body of the answer.
	Top struct {
		api.BranchTopReq
		asked *rpc.Request
	}
	// Answer sends an answer; its Done does not matter.
	Answer struct{ Answer api.BranchAnswerReq }
)

// uplink is a branch's end of the connection with its parent.
type uplink struct {
	cfg     Uplink
	nodes   map[int]int          // cores of those that are known
	open    *Open                // under way
	session uint64               // 0 = none
	next    *api.BranchReportReq // to be sent when the one before is answered
	sending *Send
	retry   time.Time // when to say hello again
	fails   int
	asks    map[uint64]bool // the parent's questions that are open; those for lists
	// Answers that wait for what the parent is to know before: sending, and next. Else what has ended would be in no list.
	behind, behindNext []*Answer
}

// patience is how long a branch waits for the last of its nodes.
const patience = 15 * time.Second

const (
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
)

// upNodes counts the nodes of a branch; when all are there it says hello.
func (s *Service) upNodes(n api.NodesChanged) {
	u := s.up
	if u == nil {
		return
	}
	for i := range n.Add {
		u.nodes[n.Add[i].Index] = n.Add[i].Cores.Count()
	}
	for _, i := range n.Remove {
		delete(u.nodes, i)
	}
	switch {
	case u.open != nil:
	case len(u.nodes) >= u.cfg.Nodes:
		s.sayHello()
	case len(u.nodes) > 0 && u.retry.IsZero():
		u.retry = s.now.Add(patience)
	}
}

func (s *Service) sayHello() {
	u := s.up
	cores := 0
	for _, n := range u.nodes {
		cores += n
	}
	u.retry = time.Time{}
	u.open = &Open{api.BranchHelloReq{Branch: u.cfg.Branch, Key: u.cfg.Key, Version: s.cfg.Version, Nodes: len(u.nodes), Cores: cores}}
	s.out.Do(u.open)
}

func (s *Service) upWake() {
	if u := s.up; u != nil && !u.retry.IsZero() && !u.retry.After(s.now) {
		s.sayHello()
	}
}

func (s *Service) upDone(d reactor.Done) {
	u := s.up
	switch e := d.Effect.(type) {
	case *Open:
		switch {
		case u.open != e: // of an earlier one
		case d.Err != nil:
			s.upLost(d.Err)
		default:
			s.upOrder(d.Result.(api.BranchOrder))
		}
	case *Top:
		if d.Err != nil {
			s.out.Fail(e.asked, d.Err)
			return
		}
		s.out.Reply(e.asked, api.BranchPassRep{Body: d.Result.([]byte)})
	case *Send:
		if u.sending != e {
			return
		}
		u.sending = nil
		if d.Err != nil {
			s.upLost(d.Err)
			return
		}
		for _, a := range u.behind {
			s.out.Do(a)
		}
		u.behind = nil
		s.upNext()
	}
}

// upLost: the session is over. What it was to tell the next list settles.
func (s *Service) upLost(err error) {
	u := s.up
	if u.session != 0 || u.fails == 0 {
		s.out.Log("warn", "no contact with the parent, trying again", "err", err)
	}
	u.session, u.next, u.sending, u.open, u.behind, u.behindNext = 0, nil, nil, nil, nil, nil
	for id := range u.asks {
		s.out.CancelCall(askKey(id))
	}
	clear(u.asks)
	wait := min(minRetry<<min(u.fails, 8), maxRetry)
	u.fails++
	u.retry = s.now.Add(wait)
}

// askTop asks the parent in the name of a client.
func (s *Service) askTop(r *rpc.Request, req api.BranchTopReq) error {
	if s.up == nil {
		return wire.Errorf(wire.Invalid, "this instance is no branch")
	}
	s.out.Do(&Top{req, r})
	return nil
}

type askKey uint64

func (s *Service) upOrder(o api.BranchOrder) {
	u := s.up
	if o.Session != 0 {
		u.session, u.fails = o.Session, 0
	}
	switch {
	case o.Ask != nil:
		s.upAsk(o.Ask)
	case o.Drop != 0:
		if _, open := u.asks[o.Drop]; open {
			delete(u.asks, o.Drop)
			s.out.CancelCall(askKey(o.Drop))
		}
	case o.End:
		s.out.Call(reactor.Call{Topic: api.Shutdown.Topic, Target: wire.Any, NoReply: true, Body: api.ShutdownReq{Keep: true, Reason: "its parent ends it"}})
	default:
		s.out.Notify("job", o)
	}
}

// upAsk asks this instance the parent's question.
func (s *Service) upAsk(a *api.BranchAsk) {
	u := s.up
	if u.asks[a.ID] = a.Topic == api.List.Topic; u.asks[a.ID] {
		s.out.Notify("job", api.BranchTell{})
	}
	s.out.Call(reactor.Call{Topic: a.Topic, Target: wire.Any, Body: rpc.Payload{Raw: a.Body}, Stream: true, Key: askKey(a.ID)})
}

// upAnswer passes the answer up.
func (s *Service) upAnswer(id uint64, r *rpc.Response) {
	u := s.up
	list, open := u.asks[id]
	if !open {
		return
	}
	a := api.BranchAnswerReq{Branch: u.cfg.Branch, Session: u.session, ID: id, More: r.More}
	if r.Err != nil {
		a.Code, a.Text = int(r.Err.Code), r.Err.Text
	} else if body, err := r.Body.Bytes(); err == nil {
		a.Body = body
	} else {
		a.Code, a.Text, a.More = int(wire.Internal), err.Error(), false
	}
	if !a.More {
		delete(u.asks, id)
	}
	switch {
	case list && u.next != nil:
		u.behindNext = append(u.behindNext, &Answer{a})
	case list && u.sending != nil:
		u.behind = append(u.behind, &Answer{a})
	default:
		s.out.Do(&Answer{a})
	}
}

// upReport takes something to tell the parent: together with what still waits for its turn. What belongs to an earlier session the list has
// settled.
func (s *Service) upReport(rep api.BranchReportReq) {
	u := s.up
	if u == nil || rep.Session == 0 || rep.Session != u.session {
		return
	}
	rep.Branch = u.cfg.Branch
	if n := u.next; n == nil {
		u.next = &rep
	} else {
		n.First, n.Recalled, n.Waiting = n.First || rep.First, n.Recalled || rep.Recalled, rep.Waiting
		n.Began, n.Ends, n.Backs = append(n.Began, rep.Began...), append(n.Ends, rep.Ends...), append(n.Backs, rep.Backs...)
	}
	s.upNext()
}

// upNext sends the next report.
func (s *Service) upNext() {
	u := s.up
	if u.sending != nil || u.next == nil {
		return
	}
	u.sending, u.next = &Send{*u.next}, nil
	u.behind, u.behindNext = u.behindNext, nil
	s.out.Do(u.sending)
}
