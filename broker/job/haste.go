package job

import "github.com/frond-hpc/frond/jobspec"

// Haste is how soon a parent wants to hear of an array's elements that a branch has. It only rises. Without it a branch reports when
// that is cheap: together with much else, or when it has nothing more to do.
type Haste uint8

// In ascending order.
const (
	NoHaste   Haste = iota
	HasteDone       // when all that a branch has of it have ended: somebody waits for the array
	HasteEach       // when one begins or ends: somebody waits for elements, or others may start for it
)

type (
	// Awaited: somebody waits for these from now on. In a branch it comes from its parent, too.
	Awaited struct{ List []Hastened }
	// Hastened is an array of which something is awaited. As an order it is for a branch.
	Hastened struct {
		Branch int
		Array  jobspec.ID
		Haste  Haste
	}
)

func (m *Machine) onAwaited(ev Awaited) {
	for _, h := range ev.List {
		if a := m.arrays[h.Array]; a != nil {
			m.hasten(a, h.Haste)
		}
	}
}

// hasten notes that somebody waits for a, and tells the branches that have some of it.
func (m *Machine) hasten(a *array, h Haste) {
	if h <= a.haste {
		return
	}
	told := m.hasteOf(a)
	a.haste = h
	if m.hasteOf(a) == told {
		return
	}
	if a.held > 0 {
		for _, b := range m.ledger.Of(a.id) {
			m.out.Hastened = append(m.out.Hastened, Hastened{b.Branch, a.id, h})
		}
	}
	if h == HasteEach && m.cfg.Branch { // what has begun the parent has not been told of
		for _, e := range append(a.sortedActive(), a.again...) {
			if e.begun {
				m.tellParent(e)
			}
		}
	}
}

// hasteOf is how soon this instance, and its parent, want to hear of a.
func (m *Machine) hasteOf(a *array) Haste {
	if o := &a.spec.Job.Array; o.Limit > 0 || o.MaxFails > 0 || a.follow {
		return HasteEach
	}
	return a.haste
}

// soon notes that the parent is to hear of what happened to a, if it wants to hear of such.
func (m *Machine) soon(a *array, at Haste) {
	if m.cfg.Branch && m.hasteOf(a) >= at {
		m.out.Soon = true
	}
}

// Hastes is what a branch has to be told of again: it may have missed it.
func (m *Machine) Hastes(of int) (list []Hastened) {
	for _, s := range m.ledger.Shares(of) {
		if a := m.arrays[s.Array]; a != nil {
			if h := m.hasteOf(a); h > NoHaste {
				list = append(list, Hastened{of, a.id, h})
			}
		}
	}
	return list
}

// haste is what a dependency needs to know of the array that it is on.
func (d *depend) haste() Haste {
	if d.Scheme == "afterstart" || d.Scheme == "aftercorr" || d.to.Elements.Len() < d.to.N {
		return HasteEach
	}
	return HasteDone
}
