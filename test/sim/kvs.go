package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/vmihailenco/msgpack/v5"
)

// kvUsers write to the key-value store and read it, through clients of brokers all over the tree, and check what they read:
//
//   - both keys of a commit are the same in every state (commits are atomic);
//   - a value is not older than what was acknowledged, or read, before the question was asked, unless it is one whose commit ended
//     with an error that leaves it open: it may take effect later;
//   - nothing is read that was not written.
type kvUsers struct {
	w       *world
	rng     *rand.Rand // of its own: the jobs' fate does not depend on it
	users   []*kvUser
	clients uint64
}

// kvUser is one client, which writes keys of its own and reads those of all.
type kvUser struct {
	kv    *kvUsers
	index int
	place string
	node  *node // nil: not connected
	id    uint64
	tag   uint64

	tried uint64 // numbers that were given to commits; the value of each commit is its number
	acked uint64
	seen  uint64 // the largest that somebody read
	open  map[uint64]bool
	calm  bool // a commit that began after the faults was acknowledged

	waiting bool
	writes  bool    // what is outstanding is a commit
	began   bool    // with calm
	of      *kvUser // whose keys are being read
	floor   uint64
}

const (
	kvClients   = 4
	kvFirstID   = reactor.FirstClient + 1<<32
	kvLongPause = 400 * time.Millisecond
)

func newKVUsers(w *world) *kvUsers {
	kv := &kvUsers{w: w, rng: rand.New(rand.NewPCG(w.cfg.Seed, 3)), clients: kvFirstID}
	for i := range min(kvClients, w.cfg.Brokers) {
		u := &kvUser{kv: kv, index: i, place: place(i * (w.cfg.Brokers - 1) / max(kvClients-1, 1)), open: make(map[uint64]bool)}
		kv.users = append(kv.users, u)
		u.later()
	}
	return kv
}

// settled tells whether everybody could write after the faults.
func (kv *kvUsers) settled() bool {
	for _, u := range kv.users {
		if !u.calm {
			return false
		}
	}
	return true
}

func (u *kvUser) later() {
	u.kv.w.After(10*time.Millisecond+time.Duration(u.kv.rng.Int64N(int64(kvLongPause))), u.next)
}

// next does the next thing, if the user's broker lives.
func (u *kvUser) next() {
	if u.waiting {
		return
	}
	w := u.kv.w
	if u.node == nil || !u.node.alive {
		if u.node = w.nodes[u.place]; u.node == nil {
			u.later()
			return
		}
		u.kv.clients++
		u.id = u.kv.clients
		u.node.post(broker.ClientUp{ID: u.id})
	}
	u.waiting, u.began = true, w.calm
	if u.writes = u.kv.rng.IntN(2) == 0; u.writes {
		u.write()
		return
	}
	u.of = u.kv.users[u.kv.rng.IntN(len(u.kv.users))]
	u.floor = max(u.of.acked, u.of.seen)
	u.call(api.KVSList.Topic, api.KVSListReq{Key: u.of.dir(), Data: 100})
}

func (u *kvUser) dir() string { return fmt.Sprintf("user.%d", u.index) }

func (u *kvUser) write() {
	u.tried++
	text := strconv.AppendUint(nil, u.tried, 10)
	u.open[u.tried] = true
	u.call(api.KVSCommit.Topic, api.KVSCommitReq{Ops: []api.KVSOp{{Kind: api.KVSPut, Key: u.dir() + ".a", Data: text},
		{Kind: api.KVSUnlink, Key: u.dir() + ".b"}, {Kind: api.KVSPut, Key: u.dir() + ".b", Data: text}}})
}

func (u *kvUser) call(topic string, body any) {
	b, err := msgpack.Marshal(body)
	u.kv.w.must(err)
	u.tag++
	u.node.post(broker.ClientMsg{ID: u.id, Msg: &wire.Message{Type: wire.Request, Topic: topic, Target: wire.Any, Tag: u.tag, Body: b}})
}

// answer takes an answer, if it is one for these clients.
func (kv *kvUsers) answer(n *node, a broker.ToClient) bool {
	if a.ID < kvFirstID {
		return false
	}
	for _, u := range kv.users {
		if u.node == n && u.id == a.ID && u.waiting && a.Msg.Tag == u.tag {
			u.waiting = false
			u.answered(a.Msg)
			u.later()
		}
	}
	return true
}

// lost: a broker has crashed.
func (kv *kvUsers) lost(n *node) {
	for _, u := range kv.users {
		if u.node == n {
			u.node = nil
			if u.waiting {
				u.waiting = false
				u.later()
			}
		}
	}
}

func (u *kvUser) answered(m *wire.Message) {
	w := u.kv.w
	switch {
	case m.Code == wire.Lost || m.Code == wire.Unavailable || m.Code == wire.Unreachable:
		return
	case m.Code == wire.NotFound && !u.writes && u.floor == 0:
		return
	case m.Code != wire.OK:
		w.fail("key-value store, %s: %s (floor %d)", u.dir(), m.Text, u.floor)
	case u.writes:
		delete(u.open, u.tried)
		u.acked = u.tried
		u.calm = u.calm || u.began
		return
	}
	var rep api.KVSListRep
	w.must(msgpack.Unmarshal(m.Body, &rep))
	if len(rep.Entries) != 2 || string(rep.Entries[0].Data) != string(rep.Entries[1].Data) {
		w.fail("key-value store, %s: half a commit is read: %v", u.of.dir(), rep.Entries)
	}
	v, err := strconv.ParseUint(string(rep.Entries[0].Data), 10, 64)
	w.must(err)
	if v > u.of.tried || v < u.floor && !u.of.open[v] {
		w.fail("key-value store, %s: %d is read; %d was acknowledged or read before, %d was written last", u.of.dir(), v, u.floor, u.of.tried)
	}
	if !u.of.open[v] {
		u.of.seen = max(u.of.seen, v)
	}
}
