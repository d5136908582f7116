package sim

import (
	"fmt"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// treeLink is the driver of a branch's service "branch": the connection with its parent.
type treeLink struct {
	in   *inst
	life int
}

// treeConn is one connection. What is sent on it arrives in order.
type treeConn struct {
	w     *tree
	child *inst
	up    time.Time // arrival of what was sent last
	down  time.Time
	over  bool
	onEnd []func() // for whoever waits on it
}

// later delivers after a random delay, in order.
func (c *treeConn) later(at *time.Time, f func()) {
	w := c.w
	t := w.now.Add(time.Duration(w.rng.IntN(5000)) * time.Microsecond)
	if t.Before(*at) {
		t = *at
	}
	*at = t
	w.After(t.Sub(w.now), func() {
		if !c.over {
			f()
		}
	})
}

// end breaks a connection.
func (c *treeConn) end() {
	if c.over {
		return
	}
	c.over = true
	for _, f := range c.onEnd {
		c.w.soon(f)
	}
}

// Do implements reactor.Driver.
func (d *treeLink) Do(_ time.Time, effect any, done func(any, error)) {
	in := d.in
	w := in.w
	lost := func() { done(nil, wire.Errorf(wire.Lost, "the connection broke")) }
	switch e := effect.(type) {
	case *branchsvc.Open:
		if in.conn != nil {
			in.conn.end()
		}
		if in.cutUntil.After(w.now) || !in.parent.alive {
			w.After(50*time.Millisecond, lost)
			return
		}
		c := &treeConn{w: w, child: in, up: w.now, down: w.now}
		in.conn = c
		c.onEnd = append(c.onEnd, lost)
		d.hello(c, e, done)
	case *branchsvc.Send:
		d.send(in.conn, api.BranchReport.Topic, e.Report, lost, func(r reactor.Reply) { done(nil, errOf(r)) })
	case *branchsvc.Answer:
		d.send(in.conn, api.BranchAnswer.Topic, e.Answer, func() {}, func(reactor.Reply) {})
	}
}

func errOf(r reactor.Reply) error {
	if r.Err != nil {
		return r.Err
	}
	return nil
}

func (d *treeLink) hello(c *treeConn, e *branchsvc.Open, done func(any, error)) {
	w, parent := c.w, d.in.parent
	c.later(&c.up, func() {
		life := parent.life
		key := parent.ask(api.BranchHello.Topic, e.Hello, true, func(r reactor.Reply) {
			c.later(&c.down, func() {
				if r.Err != nil {
					done(nil, r.Err)
					return
				}
				raw, err := r.Body.Bytes()
				w.must(err)
				o, err := rpc.As[api.BranchOrder](rpc.Payload{Raw: raw})
				w.must(err)
				if o.TakeBack > 0 {
					w.res.Recalls++
				}
				done(o, nil)
			})
		})
		c.onEnd = append(c.onEnd, func() {
			if parent.life == life {
				parent.give("branch", rpc.Cancel{Key: key})
			}
		})
	})
}

func (d *treeLink) send(c *treeConn, topic string, body any, lost func(), f func(reactor.Reply)) {
	if c == nil || c.over {
		c.w.soon(lost)
		return
	}
	answered := false
	c.onEnd = append(c.onEnd, func() {
		if !answered {
			lost()
		}
	})
	c.later(&c.up, func() {
		d.in.parent.ask(topic, body, false, func(r reactor.Reply) {
			c.later(&c.down, func() { answered = true; f(r) })
		})
	})
}

// submitAll submits over time.
func (w *tree) submitAll() {
	left := w.cfg.Jobs
	at := time.Duration(0)
	for i := 0; left > 0; i++ {
		n := min(left, 1+w.rng.IntN(max(w.cfg.Jobs/10, 1)))
		if w.rng.IntN(3) == 0 {
			n = 1
		}
		left -= n
		w.After(at, func() { w.submit(i, n) })
		at += time.Duration(w.rng.IntN(6000)) * time.Millisecond
	}
}

// submit sends one submission until it is answered. Some wait for others, some fail and are tried again, some are cancelled.
func (w *tree) submit(i, n int) {
	system := fmt.Sprintf(`"duration":0,"rerun":%v`, w.rng.IntN(10) > 0)
	if w.rng.IntN(3) == 0 {
		system += `,"retries":2`
	}
	if k := len(w.arrays); k > 0 && w.rng.IntN(3) == 0 {
		scheme := []string{"afterany", "after", "afterok", "afternotok"}[w.rng.IntN(4)]
		system += fmt.Sprintf(`,"dependencies":[{"scheme":%q,"value":%q}]`, scheme, w.arrays[w.rng.IntN(k)])
	}
	spec := fmt.Sprintf(`{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":%d}]}],`+
		`"tasks":[{"command":["sim"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{%s}}}`, 1+w.rng.IntN(2)*w.rng.IntN(2), system)
	w.send(fmt.Sprintf("%d-%d", w.now.UnixMilli(), i), api.SubmitItem{Spec: []byte(spec), N: n, Urgency: 16})
}

func (w *tree) send(token string, it api.SubmitItem) {
	answered := false
	if w.top.alive {
		w.top.ask(api.Submit.Topic, api.SubmitReq{Token: token, Items: []api.SubmitItem{it}}, false, func(r reactor.Reply) {
			if r.Err != nil {
				if r.Err.Code == wire.Unavailable {
					return
				}
				w.fail("submission: %v", r.Err)
			}
			answered = true
			raw, err := r.Body.Bytes()
			w.must(err)
			rep, err := rpc.As[api.SubmitRep](rpc.Payload{Raw: raw})
			w.must(err)
			if w.rng.IntN(6) == 0 {
				w.After(time.Duration(w.rng.IntN(3000))*time.Millisecond, func() { w.cancel(rep.IDs[0]) })
			}
		})
	}
	w.After(3*time.Second, func() {
		if !answered {
			w.send(token, it)
		}
	})
}

// cancel cancels an array or one element.
func (w *tree) cancel(id jobspec.ID) {
	if n := w.sizes[id]; n > 1 && w.rng.IntN(2) == 0 {
		id = w.element(id, w.rng.IntN(n))
	}
	if w.top.alive {
		w.top.ask(api.Raise.Topic, api.RaiseReq{IDs: []jobspec.ID{id}, Type: "cancel", Note: "the user wants it"}, false, func(reactor.Reply) {})
	}
}

// mishap is the next thing that goes wrong.
func (w *tree) mishap() {
	if w.calm {
		return
	}
	w.After(time.Duration(200+w.rng.IntN(2500))*time.Millisecond, w.mishap)
	in := w.all[w.rng.IntN(len(w.all))]
	switch w.rng.IntN(6) {
	case 0, 1: // the link breaks
		if in.conn != nil {
			w.res.Breaks++
			in.conn.end()
		}
	case 2: // for a while
		if in.conn != nil {
			w.res.Breaks++
			in.cutUntil = w.now.Add(time.Duration(w.rng.IntN(8000)) * time.Millisecond)
			in.conn.end()
		}
	case 3, 4:
		if in.alive {
			w.logf("%s crashes", in.path)
			in.crash()
			w.After(time.Duration(100+w.rng.IntN(5000))*time.Millisecond, in.bootAgain)
		}
	case 5: // with its state
		if in.alive && in.parent != nil && in.parent.alive && in.parent.whole() {
			w.lose(in)
		}
	}
}

// whole tells whether an instance and those above it live.
func (in *inst) whole() bool { return in.alive && (in.parent == nil || in.parent.whole()) }

func (in *inst) bootAgain() {
	if !in.alive {
		in.boot()
		in.expectAll()
	}
}

// crash ends an instance's leader, which is its broker, too.
func (in *inst) crash() {
	w := in.w
	w.res.Crashes++
	in.alive = false
	in.tasks.Crash()
	for id, r := range w.running {
		if r == in {
			delete(w.running, id)
		}
	}
	in.store.Crash()
	if in.conn != nil {
		in.conn.end()
	}
	for _, c := range in.children {
		if c.conn != nil {
			c.conn.end()
		}
	}
}

// lose takes a branch with all below it, and its state; its parent hears that nothing of it runs any more, and gets another one.
func (w *tree) lose(in *inst) {
	w.logf("%s is lost", in.path)
	w.res.Losses++
	in.raze()
	p := in.parent
	p.give("branch", api.BranchForfeit{Branch: in.index, Reason: "it was lost"})
	in.each(func(i *inst) { i.fresh() })
	w.After(time.Duration(w.rng.IntN(3000))*time.Millisecond, func() {
		in.each(func(i *inst) { i.bootAgain() })
		if p.alive {
			p.expectAll()
		}
	})
}

func (in *inst) raze() {
	in.each(func(i *inst) {
		if i.alive {
			i.crash()
		}
	})
}

func (in *inst) each(f func(*inst)) {
	f(in)
	for _, c := range in.children {
		c.each(f)
	}
}

// play runs until all has ended.
func (w *tree) play() {
	limit := w.now.Add(w.cfg.Limit)
	for n := 0; !w.done(); n++ {
		if !w.step(limit) {
			w.fail("not done: %d of %d ended, the top has %+v", len(w.ended), w.cfg.Jobs, w.top.jobs.Totals())
		}
		if n%500 == 0 {
			w.check()
		}
	}
	w.res.Virtual = w.now.Sub(w.began)
	for end := w.now.Add(5 * time.Second); w.step(end); {
	}
	w.check()
	w.verify()
}

func (w *tree) done() bool {
	total := 0
	for _, n := range w.sizes {
		total += n
	}
	over := len(w.ended)
	for id := range w.noted {
		if w.ended[id] == 0 {
			over++
		}
	}
	return w.calm && total == w.cfg.Jobs && over == total
}

func (w *tree) check() {
	for _, in := range w.all {
		if in.alive {
			if err := in.jobs.Check(); err != nil {
				w.fail("%s: %v", in.path, err)
			}
			if err := in.branch.Check(); err != nil {
				w.fail("%s: %v", in.path, err)
			}
		}
	}
}

// verify looks into the stores: an element that has ended in a branch has done so in one, and what the top says of it is the same; no branch holds
// anything any more.
func (w *tree) verify() {
	where := make(map[jobspec.ID]*inst)
	for _, in := range w.all {
		if len(in.children) > 0 || !in.alive {
			continue
		}
		w.stored(in, func(e job.ElementRow) {
			if o := where[e.ID]; o != nil {
				w.fail("%v has ended in %s and in %s", e.ID, o.path, in.path)
			}
			where[e.ID] = in
			if w.result(e.ID) != int(e.Result) {
				w.fail("%v has ended with result %d in %s, with %d at the top", e.ID, e.Result, in.path, w.result(e.ID))
			}
		})
	}
	for _, in := range w.all {
		if in.alive && in.jobs.Totals().Pending+in.jobs.Totals().Running > 0 {
			w.fail("%s has jobs at the end: %+v", in.path, in.jobs.Totals())
		}
	}
	if len(w.running) > 0 {
		w.fail("%d elements run at the end", len(w.running))
	}
}

func (w *tree) stored(in *inst, f func(job.ElementRow)) {
	in.leader.Do(w.now, &job.Query{Run: func(r job.Reader) (any, error) {
		return nil, r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
			f(e)
			return true
		})
	}}, func(any, error) {})
	for end := w.now.Add(time.Second); w.step(end); {
	}
}
