package overlay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/frond-hpc/frond/overlay/wire"
)

// leadership is the leader's part: who is a member, and where.
type leadership struct {
	m        *Machine
	members  map[int32]*member
	byUUID   map[string]int32 // ranks given, also to those that have not joined yet
	owner    map[int32]string // the same the other way round
	next     int32            // first rank that was never given
	promises []promise        // places given and not yet taken, oldest first
	over     int              // members that are dead or have left
}

type member struct {
	Member
	kids     []int32 // online ones, ascending
	promised int     // places below it
}

// promise keeps a place for the broker it was given to.
type promise struct {
	uuid   string
	parent int32
	until  time.Time
}

func newLeadership(m *Machine) *leadership {
	d := &leadership{m: m, members: map[int32]*member{}, byUUID: map[string]int32{}, owner: map[int32]string{}}
	for _, k := range m.cfg.Known {
		if k.Rank == m.rank {
			continue
		}
		if k.State == Online || k.State == 0 {
			k.State, k.Reason = Orphan, "the leader was restarted"
		}
		d.members[k.Rank] = &member{Member: k}
		d.over += k.State.over()
		if k.UUID != "" {
			d.own(k.Rank, k.UUID)
		}
	}
	d.next = max(d.next, int32(m.cfg.Size), m.rank+1)
	d.own(m.rank, m.cfg.UUID)
	return d
}

// own gives a rank to a process for ever.
func (d *leadership) own(rank int32, uuid string) {
	d.byUUID[uuid], d.owner[rank] = rank, uuid
	d.next = max(d.next, rank+1)
}

// begin makes the leader its own first member.
func (d *leadership) begin() {
	m := d.m
	m.epoch, m.path, m.inc = max(1, m.cfg.Epoch), 1, m.nextInc()
	d.members[m.rank] = &member{Member: Member{Rank: m.rank, UUID: m.cfg.UUID, Incarnation: m.inc, State: Online, Parent: -1, Since: m.now, Info: m.cfg.Info}}
	m.emit(Joined{m.rank, m.epoch, m.path, m.inc})
	for _, k := range d.list() {
		if k.State == Orphan {
			d.members[k.Rank].Since = m.now
			k.Since = m.now
		}
		m.emit(MemberChange{k})
	}
}

// over is 1 for a member that does not come back.
func (s MemberState) over() int {
	if s == Gone || s == Left {
		return 1
	}
	return 0
}

func (d *leadership) list() []Member {
	all := make([]Member, 0, len(d.members))
	for _, mb := range d.members {
		all = append(all, mb.Member)
	}
	slices.SortFunc(all, func(a, b Member) int { return int(a.Rank) - int(b.Rank) })
	return all
}

// join decides on a member's announcement.
func (d *leadership) join(l *link, j join) {
	mb := d.members[j.Rank]
	if !d.wayHolds(l, j) || (mb != nil && j.Inc <= mb.Incarnation) {
		d.m.report("debug", "late join ignored", "rank", j.Rank, "inc", j.Inc)
		return
	}
	if err := d.claim(j.Rank, j.UUID, j.Info); err != nil {
		d.refuse(l, j.UUID, j.Inc, err, true)
		return
	}
	d.keepPromise(j.UUID)
	d.lose(j.Rank, Orphan, "it joined anew")
	mb = d.ensure(j.Rank)
	d.over -= mb.State.over()
	d.own(j.Rank, j.UUID)
	mb.Member = Member{Rank: j.Rank, UUID: j.UUID, Incarnation: j.Inc, State: Online, Parent: j.Parent, Since: d.m.now, Info: j.Info}
	d.addKid(d.members[j.Parent], j.Rank)
	d.m.emit(MemberChange{mb.Member})
	d.m.confirm(l, joined{UUID: j.UUID, Rank: j.Rank, Inc: j.Inc, Epoch: d.m.epoch, Others: d.others(mb)})
}

// wayHolds tells whether the way that a join came is the present one: its parent is online, by the same incarnation and link.
func (d *leadership) wayHolds(l *link, j join) bool {
	p := d.members[j.Parent]
	if j.Rank == j.Parent || p == nil || p.State != Online || p.Incarnation != j.ParentInc {
		return false
	}
	return j.Parent == d.m.rank || d.m.routes[j.Parent].link == l
}

// claim tells why a process cannot have a rank; nil if it can. A rank belongs to one uuid for ever, and a process that was
// declared dead stays so.
func (d *leadership) claim(rank int32, uuid string, info Info) *wire.Error {
	if rank < 0 || uuid == "" {
		return wire.Errorf(wire.Invalid, "a member needs a rank and a uuid")
	}
	if have, ok := d.byUUID[uuid]; ok && have != rank {
		return wire.Errorf(wire.Exists, "the broker that wants rank %d has rank %d", rank, have)
	}
	mb := d.members[rank]
	switch owner, owned := d.owner[rank]; {
	case !owned:
	case owner != uuid && mb == nil:
		return wire.Errorf(wire.Exists, "rank %d is reserved for another broker", rank)
	case owner != uuid:
		return wire.Errorf(wire.Exists, "rank %d belongs to process %d on host %s, which is %v; ranks are not reused", rank, mb.Info.PID, mb.Info.Hostname, mb.State)
	case mb != nil && mb.State == Gone && info.PID != 0 && info.PID == mb.Info.PID && info.BootID == mb.Info.BootID:
		return wire.Errorf(wire.Denied, "rank %d, process %d on host %s, was declared dead", rank, mb.Info.PID, mb.Info.Hostname)
	}
	return nil
}

func (d *leadership) ensure(rank int32) *member {
	mb := d.members[rank]
	if mb == nil {
		mb = &member{Member: Member{Rank: rank, Parent: -1}}
		d.members[rank] = mb
	}
	return mb
}

func (d *leadership) refuse(l *link, uuid string, inc uint64, err *wire.Error, final bool) {
	d.m.report("warn", "member refused", "uuid", uuid, "reason", err.Text)
	d.m.send(l, kindRefused, pack(refused{UUID: uuid, Inc: inc, Code: err.Code, Text: err.Text, Final: final}))
}

// lose marks an online member, and as Orphan all below it, as not reachable. It does nothing to one that is not online.
func (d *leadership) lose(rank int32, state MemberState, reason string) {
	mb := d.members[rank]
	if mb == nil || mb.State != Online || rank == d.m.rank {
		return
	}
	d.removeKid(d.members[mb.Parent], rank)
	delete(d.m.routes, rank)
	kids := mb.kids
	mb.kids = nil
	d.set(mb, state, reason)
	for _, k := range kids {
		d.lose(k, Orphan, fmt.Sprintf("its way led over rank %d: %s", rank, reason))
	}
}

func (d *leadership) set(mb *member, state MemberState, reason string) {
	d.over += state.over() - mb.State.over()
	mb.State, mb.Reason, mb.Since = state, reason, d.m.now
	d.m.emit(MemberChange{mb.Member})
}

func (d *leadership) addKid(p *member, rank int32) {
	if i, found := slices.BinarySearch(p.kids, rank); !found {
		p.kids = slices.Insert(p.kids, i, rank)
	}
}

func (d *leadership) removeKid(p *member, rank int32) {
	if i, found := slices.BinarySearch(p.kids, rank); found {
		p.kids = slices.Delete(p.kids, i, i+1)
	}
}

// gone takes the report of a hop.
func (d *leadership) gone(lost []who, reason string) {
	for _, w := range lost {
		if mb := d.members[w.Rank]; mb != nil && mb.Incarnation == w.Inc {
			d.lose(w.Rank, Orphan, reason)
		}
	}
}

// leave marks a member as left and lets it go.
func (d *leadership) leave(l *link, w who) {
	d.lose(w.Rank, Left, "it left")
	d.m.send(l, kindLeft, pack(w))
}

// onDead: someone knows that a member's process is dead.
func (m *Machine) onDead(e Dead) {
	if m.lead == nil || e.Rank == m.rank || e.Rank < 0 || e.Rank >= m.lead.next {
		return
	}
	mb := m.lead.ensure(e.Rank)
	if mb.State == Gone || mb.State == Left || (e.PID != 0 && mb.Info.PID != 0 && e.PID != mb.Info.PID) {
		return
	}
	r, reachable := m.routes[e.Rank]
	const reason = "its process is dead"
	if mb.State != Online {
		m.lead.set(mb, Gone, reason)
		return
	}
	m.lead.lose(e.Rank, Gone, reason)
	switch {
	case !reachable:
	case r.link.peer.Rank == e.Rank:
		m.endLink(r.link, reason)
	default:
		m.send(r.link, kindDrop, pack(who{Rank: e.Rank, Inc: r.inc}))
	}
}

// place answers where a broker without an uplink is to connect. That it asks means that its old way is broken, and the way of
// all below it: they count as lost from now on, so none of them can become its parent.
func (d *leadership) place(l *link, p place) {
	rank := p.Rank
	if have, ok := d.byUUID[p.UUID]; ok && rank < 0 {
		rank = have
	}
	if rank < 0 {
		rank = d.next
	}
	if err := d.claim(rank, p.UUID, Info{}); err != nil {
		d.refuse(l, p.UUID, p.Inc, err, true)
		return
	}
	if mb := d.members[rank]; mb != nil {
		if p.Inc <= mb.Incarnation {
			return
		}
		d.lose(rank, Orphan, "it lost its uplink")
	}
	d.own(rank, p.UUID)
	d.keepPromise(p.UUID)
	parent := d.choose(rank, p)
	if parent == nil {
		d.refuse(l, p.UUID, p.Inc, wire.Errorf(wire.Busy, "no broker has a free place at the moment"), false)
		return
	}
	d.give(p.UUID, parent)
	d.answerPlace(l, placed{UUID: p.UUID, Inc: p.Inc, Rank: rank, Parent: parent.Rank, Addr: parent.Info.Addr})
}

func (d *leadership) answerPlace(l *link, p placed) {
	d.m.report("info", "place given", "rank", p.Rank, "parent", p.Parent)
	d.m.send(l, kindPlaced, pack(p))
}

// choose finds the shallowest online broker with a free place, the lowest rank first, and if it can one that the asker
// has not failed to reach. An asker with nothing below it leaves the last places of a level to those that bring their children,
// who would else hang a level lower: after a leader's restart all ask anew, in any order.
func (d *leadership) choose(rank int32, p place) *member {
	var reserved, avoided *member
	size, above, width := d.size(), 1, 1
	for level := []int32{d.m.rank}; len(level) > 0; {
		width = min(width*d.m.cfg.Fanout, size)
		above += width
		next, partial := d.below(level)
		open := len(p.Subtree) > 0 || partial < max(1, width-divideUp(max(0, size-above), d.m.cfg.Fanout))
		for _, r := range level {
			mb := d.members[r]
			switch {
			case !d.hasRoom(mb) || mb.Rank == rank || slices.Contains(p.Subtree, mb.Rank):
			case slices.Contains(p.Avoid, mb.Rank):
				avoided = cmp.Or(avoided, mb)
			case open:
				return mb
			default:
				reserved = cmp.Or(reserved, mb)
			}
		}
		level = next
	}
	if reserved != nil && d.awaits() {
		return nil // there will be places below it in a moment
	}
	return cmp.Or(reserved, avoided)
}

// awaits tells whether a broker that was given a place just now has yet to take it.
func (d *leadership) awaits() bool {
	n := len(d.promises)
	return n > 0 && d.m.now.Before(d.promises[n-1].until.Add(-(patience-1)*d.m.cfg.Keepalive))
}

// below lists the children of a level's members, and counts those of them, and of the places given below that level, that
// could have more children.
func (d *leadership) below(level []int32) (next []int32, partial int) {
	for _, r := range level {
		mb := d.members[r]
		partial += mb.promised
		next = append(next, mb.kids...)
	}
	for _, r := range next {
		if d.hasRoom(d.members[r]) {
			partial++
		}
	}
	return next, partial
}

func (d *leadership) hasRoom(mb *member) bool { return len(mb.kids)+mb.promised < d.m.cfg.Fanout }

// size is how many members there are, and may come back or are still to come.
func (d *leadership) size() int { return max(d.m.cfg.Size, len(d.members)) - d.over }

func divideUp(n, by int) int { return (n + by - 1) / by }

// give keeps a place below parent for some time.
func (d *leadership) give(uuid string, parent *member) {
	parent.promised++
	d.promises = append(d.promises, promise{uuid, parent.Rank, d.m.now.Add(patience * d.m.cfg.Keepalive)})
}

// keepPromise drops the place kept for uuid, which has come or asks anew, and those whose time is over.
func (d *leadership) keepPromise(uuid string) {
	kept := d.promises[:0]
	for _, p := range d.promises {
		if p.uuid == uuid || !d.m.now.Before(p.until) {
			d.members[p.parent].promised--
			continue
		}
		kept = append(kept, p)
	}
	d.promises = kept
}

// others gives a new member some addresses for the time when it has lost its parent: the leader's, its grandparent's, and two of
// the leader's children, not the same for all.
func (d *leadership) others(mb *member) []string {
	top := d.members[d.m.rank]
	addrs := []string{top.Info.Addr}
	add := func(rank int32) {
		o := d.members[rank]
		if o != nil && o != mb && o.State == Online && o.Rank != mb.Parent && !slices.Contains(addrs, o.Info.Addr) {
			addrs = append(addrs, o.Info.Addr)
		}
	}
	add(d.members[mb.Parent].Parent)
	for i := range min(2, len(top.kids)) {
		add(top.kids[(int(mb.Rank)+i)%len(top.kids)])
	}
	return addrs
}
