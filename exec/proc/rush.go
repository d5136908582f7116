package proc

import "time"

// rush is how the driver finds out that many short tasks come: then cpu time of the broker is taken from them, and whoever wired the
// driver may want to save it (Config.Rush).
type rush struct {
	on       bool
	launches int // since last
	last     time.Time
}

const (
	rushEvery = 200 * time.Millisecond // least time between two looks
	rushOn    = 200                    // launches a second
	rushOff   = 50
)

// look tells whether on has changed.
func (r *rush) look(now time.Time) bool {
	since := now.Sub(r.last)
	if since < rushEvery {
		return false
	}
	rate := float64(r.launches) / since.Seconds()
	r.launches, r.last = 0, now
	if r.on && rate < rushOff || !r.on && rate > rushOn {
		r.on = !r.on
		return true
	}
	return false
}
