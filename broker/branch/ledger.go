// Package branch is what a parent instance decides about its branches, the children that it delegates slices of its queue to: which
// branch holds which elements (Ledger), and how many elements go where (Balance). It is pure.
//
// An element that was granted has one holder. It moves only when the holder has given it back, or when the branch has ended and nothing
// of it runs any more: then all that it holds is forfeited. Whatever a branch says of elements that it does not hold is passed by: it
// was said again, or comes too late.
package branch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

// Share is elements of an array.
type Share struct {
	Array    jobspec.ID
	Elements idset.Set
}

// Part is elements that one grant had given.
type Part struct {
	Grant    uint64
	Elements idset.Set
}

// holding is what is left of one grant of an array.
type holding struct {
	grant  uint64
	branch int
	set    idset.Set
}

// Ledger says who holds what. Elements that nobody holds are not in it.
type Ledger struct {
	last   uint64
	arrays map[jobspec.ID][]holding
	left   map[uint64]int // elements of each grant that are still held
	held   map[int]int    // elements that each branch holds
}

// NewLedger makes an empty one.
func NewLedger() *Ledger {
	return &Ledger{arrays: make(map[jobspec.ID][]holding), left: make(map[uint64]int), held: make(map[int]int)}
}

// Grant gives elements, which nobody holds, to a branch, and returns the number of the grant.
func (l *Ledger) Grant(branch int, shares []Share) uint64 {
	l.last++
	l.Restore(l.last, branch, shares)
	return l.last
}

// Restore books a grant of an earlier leader; they come in the order of their numbers. What an earlier one gave is taken over.
func (l *Ledger) Restore(num uint64, branch int, shares []Share) {
	l.last = max(l.last, num)
	for _, s := range shares {
		l.take(s.Array, s.Elements, func(*holding) bool { return true })
		if n := s.Elements.Len(); n > 0 {
			l.arrays[s.Array] = append(l.arrays[s.Array], holding{num, branch, s.Elements.Clone()})
			l.left[num] += n
			l.held[branch] += n
		}
	}
}

// Settle takes out those of the elements that the branch holds, by grant.
func (l *Ledger) Settle(branch int, s Share) []Part {
	return l.take(s.Array, s.Elements, func(h *holding) bool { return h.branch == branch })
}

func (l *Ledger) take(array jobspec.ID, set idset.Set, of func(*holding) bool) (parts []Part) {
	list, ok := l.arrays[array]
	if !ok {
		return nil
	}
	kept := list[:0]
	for _, h := range list {
		if of(&h) {
			if got := h.set.Intersect(set); !got.Empty() {
				parts = append(parts, Part{h.grant, got})
				h.set = h.set.Minus(got)
				l.count(h, got.Len())
			}
		}
		if !h.set.Empty() {
			kept = append(kept, h)
		}
	}
	clear(list[len(kept):])
	if len(kept) == 0 {
		delete(l.arrays, array)
	} else {
		l.arrays[array] = kept
	}
	return parts
}

func (l *Ledger) count(h holding, n int) {
	if l.held[h.branch] -= n; l.held[h.branch] == 0 {
		delete(l.held, h.branch)
	}
	if l.left[h.grant] -= n; l.left[h.grant] == 0 {
		delete(l.left, h.grant)
	}
}

// Last is the number of the latest grant.
func (l *Ledger) Last() uint64 { return l.last }

// Over tells whether nothing of a grant is held any more.
func (l *Ledger) Over(grant uint64) bool { return l.left[grant] == 0 }

// Rest is what is still held of a grant, by array, and by whom.
func (l *Ledger) Rest(grant uint64) (branch int, list []Share) {
	if l.left[grant] == 0 {
		return 0, nil
	}
	for _, id := range slices.Sorted(maps.Keys(l.arrays)) {
		for _, h := range l.arrays[id] {
			if h.grant == grant {
				branch, list = h.branch, append(list, Share{id, h.set.Clone()})
			}
		}
	}
	return branch, list
}

// Holder is who holds an element, by which grant.
func (l *Ledger) Holder(array jobspec.ID, index int) (branch int, grant uint64, ok bool) {
	for _, h := range l.arrays[array] {
		if h.set.Has(index) {
			return h.branch, h.grant, true
		}
	}
	return 0, 0, false
}

// Of is what is held of an array, by branch in ascending order.
func (l *Ledger) Of(array jobspec.ID) (list []Held) {
	for _, h := range l.arrays[array] {
		i, found := slices.BinarySearchFunc(list, h.branch, func(x Held, b int) int { return cmp.Compare(x.Branch, b) })
		if !found {
			list = slices.Insert(list, i, Held{Branch: h.branch})
		}
		list[i].Elements = list[i].Elements.Union(h.set)
	}
	return list
}

// Held is elements of an array that a branch holds.
type Held struct {
	Branch   int
	Elements idset.Set
}

// Shares is all that a branch holds, by array.
func (l *Ledger) Shares(branch int) (list []Share) {
	if l.held[branch] == 0 {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(l.arrays)) {
		s := Share{Array: id}
		for _, h := range l.arrays[id] {
			if h.branch == branch {
				s.Elements = s.Elements.Union(h.set)
			}
		}
		if !s.Elements.Empty() {
			list = append(list, s)
		}
	}
	return list
}

// Count is how many elements a branch holds.
func (l *Ledger) Count(branch int) int { return l.held[branch] }

// Branches are those that hold something.
func (l *Ledger) Branches() []int { return slices.Sorted(maps.Keys(l.held)) }

// Check returns the first broken invariant: an element has one holder, and the counts are those of the sets.
func (l *Ledger) Check() error {
	left, held := make(map[uint64]int), make(map[int]int)
	for id, list := range l.arrays {
		var all idset.Set
		for _, h := range list {
			if both := all.Intersect(h.set); !both.Empty() {
				return fmt.Errorf("elements %v of %v have two holders", both, id)
			}
			if h.set.Empty() || h.grant > l.last {
				return fmt.Errorf("grant %d of %v: elements %v, the last grant is %d", h.grant, id, h.set, l.last)
			}
			all = all.Union(h.set)
			left[h.grant] += h.set.Len()
			held[h.branch] += h.set.Len()
		}
	}
	if !maps.Equal(left, l.left) || !maps.Equal(held, l.held) {
		return fmt.Errorf("held by branch %v, by grant %v, counted as %v and %v", held, left, l.held, l.left)
	}
	return nil
}
