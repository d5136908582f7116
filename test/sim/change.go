package sim

import (
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
)

// fiddle changes urgencies and time limits, holds jobs for a while and stops the queue, until everything is calm: then nothing stays held.
func (u *user) fiddle() {
	w := u.w
	if w.calm {
		u.release()
		return
	}
	w.After(time.Duration(w.rng.Int64N(int64(2*time.Second))), u.fiddle)
	if u.client == 0 || len(u.order) == 0 {
		return
	}
	id := u.order[w.rng.IntN(len(u.order))]
	switch w.rng.IntN(6) {
	case 0:
		u.held[id] = true
		u.setUrgency(id, 0)
	case 1:
		u.setUrgency(id, 31)
	case 2, 3:
		u.setUrgency(id, 1+w.rng.IntN(30))
	case 4:
		u.tag++
		u.call(api.Update.Topic, u.tag, api.UpdateReq{IDs: []jobspec.ID{id}, Duration: &api.DurationChange{Seconds: float64(3600 + w.rng.IntN(3600))}})
	default:
		u.switchQueue(false)
		w.After(time.Duration(w.rng.Int64N(int64(2*time.Second))), u.restart)
	}
}

// restart starts the queue that was stopped a moment ago: in a queue that stands still nothing can go wrong.
func (u *user) restart() {
	if u.client == 0 {
		u.w.After(time.Second, u.restart)
		return
	}
	u.switchQueue(true)
}

// release lets go all that may be held: what the user asked for may have been lost with a leader, and what was not asked for may hold.
func (u *user) release() {
	if u.client == 0 {
		u.w.After(time.Second, u.release)
		return
	}
	u.switchQueue(true)
	for _, id := range u.order {
		if u.held[id] {
			u.setUrgency(id, 16)
		}
	}
	if !u.w.done() {
		u.w.After(5*time.Second, u.release)
	}
}

func (u *user) setUrgency(id jobspec.ID, n int) {
	u.tag++
	u.call(api.Update.Topic, u.tag, api.UpdateReq{IDs: []jobspec.ID{id}, Urgency: &n})
}

func (u *user) switchQueue(start bool) {
	u.tag++
	u.call(api.QueueSet.Topic, u.tag, api.QueueSetReq{Start: &start, NoCheckpoint: u.w.rng.IntN(2) == 0})
}
