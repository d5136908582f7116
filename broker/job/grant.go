package job

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/broker/branch"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

// A parent of branches does not ask its scheduler for elements that a branch can run: it offers them (Actions.Offers, as many as may start
// now), is told how many of them go where (Take), and gives them when the grant is durable. Until they have ended, or come back, they are
// held: only the ledger knows of them, and they count as running. How they ended is written as ranges; a branch keeps their rows.

// Events of a parent.
type (
	// Split says which jobs branches may run; nil = there are no branches (any more).
	Split struct {
		Fits func(*jobspec.Jobspec) bool
	}
	// Take grants elements to a branch, as far as they are still to be had.
	Take branch.Take
	// Acked is what a branch reports. Of what it does not hold nothing is taken.
	Acked struct {
		Branch int
		Began  []branch.Share
		Ends   []End
		Backs  []Back
	}
	// End is elements that ended alike.
	End struct {
		branch.Share
		Result jobspec.Result
		Status int // wait status, -1 = none
		Exc    *Exception
		Ran    bool
		Time   float64
	}
	// Back is elements that are the parent's again. Lost: they may have run.
	Back struct {
		branch.Share
		Again []Again // of them, those that ran there, and are to run again
		Lost  bool
	}
	// Again is an element that ran, with what is known of that.
	Again struct {
		Index   int
		Attempt uint32
		Fails   int
		Log     []byte
	}
	// Forfeited: nothing of a branch runs any more, and it does not come back.
	Forfeited struct {
		Branch int
		Reason string
	}
)

// Orders of a parent.
type (
	// Offer is Delta more (or fewer) elements of an array that may go to a branch.
	Offer struct {
		Array    jobspec.ID
		Spec     *Spec
		Delta    int
		Priority uint32
	}
	// Granted is a grant that is durable.
	Granted struct {
		Branch int
		Num    uint64
		Items  []GrantItem
	}
	// GrantItem is elements of an array. Row is a copy.
	GrantItem struct {
		Row      ArrayRow
		Spec     *Spec
		Env      *Env
		Elements idset.Set
		Again    []Again
		Tried    idset.Set // of the others, those whose first attempt here is not their first
		Vars     []string
		Urgency  int
		Limit    float64
		Watched  bool
		Haste    Haste
	}
	// Settled is N elements that a branch holds no more. Ended: because they have ended.
	Settled struct {
		Branch int
		Array  jobspec.ID
		N      int
		Cores  int // of them all
		Ended  bool
	}
	// Cast is an exception for elements that a branch holds. As an event it comes from the parent.
	Cast struct {
		Branch int
		branch.Share
		Exc    Exception
		States jobspec.State
	}
)

// EncodeShares writes shares as the store keeps them: for each the array and the elements' idset with its length.
func EncodeShares(shares []branch.Share) []byte {
	var b []byte
	for _, s := range shares {
		set := s.Elements.String()
		b = binary.AppendUvarint(b, uint64(s.Array))
		b = binary.AppendUvarint(b, uint64(len(set)))
		b = append(b, set...)
	}
	return b
}

// DecodeShares reads what EncodeShares wrote.
func DecodeShares(b []byte) (shares []branch.Share, err error) {
	for len(b) > 0 {
		id, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errLog
		}
		size, k := binary.Uvarint(b[n:])
		if k <= 0 || size > uint64(len(b)-n-k) {
			return nil, errLog
		}
		text := b[n+k : n+k+int(size)]
		set, err := idset.Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("elements of a grant: %w", err)
		}
		shares, b = append(shares, branch.Share{Array: jobspec.ID(id), Elements: set}), b[n+k+int(size):]
	}
	return shares, nil
}

func (m *Machine) onSplit(ev Split) {
	m.fits = ev.Fits
	for _, id := range m.order {
		if a := m.arrays[id]; a != nil {
			if d := m.goes(a); d != a.delegated {
				m.ask(a, 0)
				a.delegated = d
			}
			m.adjust(a)
		}
	}
}

// FlagSystem marks an array of the instance itself (ArrayRow.Flags): what it is made of, not what it is for. It is not listed nor counted.
const FlagSystem = 1 << 20

// Asked is how many elements of an array the scheduler is asked for, or branches may have.
func (m *Machine) Asked(id jobspec.ID) int {
	if a := m.arrays[id]; a != nil {
		return int(a.asked)
	}
	return 0
}

// goes tells whether elements of a go to branches.
func (m *Machine) goes(a *array) bool {
	return m.fits != nil && a.flags&FlagSystem == 0 && m.fits(a.spec.Job)
}

// mayOffer is how many of the elements that may start branches are told of: none as long as it is not known what runs, or the array is
// held.
func (m *Machine) mayOffer(a *array, want int) int {
	if m.gated() || m.unlisted || a.urgency == 0 {
		return 0
	}
	return want
}

// regrant has offered what could not be during the recovery.
func (m *Machine) regrant() {
	for _, id := range m.order {
		if a := m.arrays[id]; a != nil && a.delegated {
			m.adjust(a)
		}
	}
}

func (m *Machine) onTake(ev Take) {
	g := Granted{Branch: ev.Branch}
	var shares []branch.Share
	for _, it := range ev.Items {
		a := m.arrays[it.Array]
		if a == nil || !a.delegated { // the offer was withdrawn meanwhile, and what is taken of it with it
			m.out.Offers = append(m.out.Offers, Offer{Array: it.Array, Delta: it.N})
			continue
		}
		a.asked -= int32(it.N)
		m.adjust(a)
		if item := m.takeItem(a, m.mayOffer(a, min(it.N, m.want(a)))); !item.Elements.Empty() {
			g.Items = append(g.Items, item)
			shares = append(shares, branch.Share{Array: a.id, Elements: item.Elements})
		}
	}
	if len(g.Items) == 0 {
		return
	}
	g.Num = m.ledger.Grant(ev.Branch, shares)
	m.txn.Grants = append(m.txn.Grants, GrantRow{g.Num, g.Branch, EncodeShares(shares)})
	m.next.grants = append(m.next.grants, g)
}

// takeItem takes up to n pending elements out, those that ran before first.
func (m *Machine) takeItem(a *array, n int) GrantItem {
	it := GrantItem{Row: *a.row(), Spec: a.spec, Env: a.env, Vars: a.aftermathVars(), Urgency: int(a.urgency), Limit: a.limit, Watched: a.watched, Haste: m.hasteOf(a)}
	for ; n > 0; n-- {
		i := a.firstAgain()
		if i < 0 {
			break
		}
		e := a.again[i]
		a.removeAgain(i)
		it.Elements.Add(e.idx)
		it.Again = append(it.Again, Again{e.idx, e.attempt, e.fails, e.log.buf})
	}
	for n > 0 {
		s, ok := a.takeSpan(n)
		if !ok {
			break
		}
		it.Elements.AddRange(s.Lo, s.Hi)
		n -= s.Hi - s.Lo + 1
	}
	if k := it.Elements.Len(); k > 0 {
		maybe := a.tried
		if a.hi > 0 {
			maybe = maybe.Union(idset.FromRange(0, a.hi-1))
		}
		it.Tried = maybe.Intersect(it.Elements)
		if !a.tried.Empty() {
			a.tried = a.tried.Minus(it.Elements)
		}
		m.hold(a, k)
		if !a.hiDirty {
			a.hiDirty = true
			m.dirty = append(m.dirty, a)
		}
	}
	return it
}

// hold counts n pending elements as held.
func (m *Machine) hold(a *array, n int) {
	a.pending -= n
	a.held += int32(n)
	m.totals.Pending -= n
	m.totals.Running += n
}

// release counts n elements as pending that were held.
func (m *Machine) release(a *array, n int) {
	m.hold(a, -n)
	m.adjust(a)
}

// takeSpan takes a span of up to n pending elements that never ran here and may start.
func (a *array) takeSpan(n int) (Span, bool) {
	if a.wait != nil && a.wait.corr {
		if a.wait.ready.Empty() {
			return Span{}, false
		}
		s := Span{a.wait.ready.Min(), a.wait.ready.Min()}
		for s.Hi-s.Lo+1 < n && a.wait.ready.Has(s.Hi+1) {
			s.Hi++
		}
		a.addSkip(s.Lo, s.Hi)
		a.own().top = max(a.top, s.Hi+1)
		return s, true
	}
	lo := a.popPending()
	if lo < 0 {
		return Span{}, false
	}
	hi := min(lo+n-1, a.n-1)
	if len(a.skip) > 0 {
		hi = min(hi, a.skip[0].Lo-1)
	}
	a.next = hi + 1
	return Span{lo, hi}, true
}

// unskip makes elements pending that were not.
func (a *array) unskip(lo, hi int) {
	skip := a.skip
	if lo < a.next {
		if hi < a.next-1 {
			skip = slices.Insert(slices.Clone(skip), 0, Span{hi + 1, a.next - 1})
		}
		a.next = lo
	}
	var out []Span
	for _, s := range skip {
		if s.Hi < lo || s.Lo > hi {
			out = append(out, s)
			continue
		}
		if s.Lo < lo {
			out = append(out, Span{s.Lo, lo - 1})
		}
		if s.Hi > hi {
			out = append(out, Span{hi + 1, s.Hi})
		}
	}
	if len(out)+len(a.skip) > 0 {
		a.own().skip = joined(out)
	}
}

// joined makes one of spans that touch.
func joined(spans []Span) []Span {
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].Hi+1 >= s.Lo {
			out[n-1].Hi = max(out[n-1].Hi, s.Hi)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// sendGrants hands out what is durable, and behind it the exceptions for it that came meanwhile.
func (m *Machine) sendGrants(grants []Granted) {
	m.out.Granted = append(m.out.Granted, grants...)
	for i := range grants {
		for _, it := range grants[i].Items {
			if a := m.arrays[it.Row.ID]; a != nil {
				for _, c := range a.casts {
					m.cast(a, grants[i].Branch, c, it.Elements)
				}
			}
		}
	}
}

// Shares is all that a branch holds.
func (m *Machine) Shares(of int) []branch.Share { return m.ledger.Shares(of) }

// HeldBy is how many elements a branch holds.
func (m *Machine) HeldBy(of int) int { return m.ledger.Count(of) }

// Holders are the branches that hold something.
func (m *Machine) Holders() []int { return m.ledger.Branches() }

// Holder is the branch that holds an element; ok is false if none does.
func (m *Machine) Holder(arr jobspec.ID, idx int) (of int, ok bool) {
	of, _, ok = m.ledger.Holder(arr, idx)
	return of, ok
}

// HoldersOf are the branches that hold elements of an array.
func (m *Machine) HoldersOf(arr jobspec.ID) []branch.Held { return m.ledger.Of(arr) }

func (m *Machine) isHeld(a *array, idx int) bool {
	if a.held == 0 {
		return false
	}
	_, _, ok := m.ledger.Holder(a.id, idx)
	return ok
}

// loadGrants takes over what branches hold.
func (m *Machine) loadGrants(rows []GrantRow) error {
	if len(rows) == 0 {
		return nil
	}
	for _, row := range rows {
		shares, err := DecodeShares(row.Items)
		if err != nil {
			return fmt.Errorf("read grant %d from the store: %w", row.Num, err)
		}
		kept := shares[:0]
		for _, s := range shares {
			if a := m.arrays[s.Array]; a != nil {
				s.Elements = a.unfinished(s.Elements)
				kept = append(kept, s)
			}
		}
		if m.ledger.Restore(row.Num, row.Branch, kept); m.ledger.Over(row.Num) {
			m.txn.Over = append(m.txn.Over, row.Num)
		}
	}
	for _, id := range m.order {
		a := m.arrays[id]
		for _, h := range m.ledger.Of(id) {
			for r := range h.Elements.Ranges() {
				a.addSkip(r.Lo, r.Hi)
			}
			m.hold(a, h.Elements.Len())
			m.adjust(a)
		}
	}
	return nil
}

// unfinished is those of a set that are pending.
func (a *array) unfinished(set idset.Set) (out idset.Set) {
	for r := range set.Ranges() {
		for _, s := range a.pendingSpans(r.Lo, min(r.Hi, a.n-1)) {
			out.AddRange(s.Lo, s.Hi)
		}
	}
	return out
}

// checkHeld compares ledger and arrays.
func (m *Machine) checkHeld() error {
	if err := m.ledger.Check(); err != nil {
		return err
	}
	for _, id := range m.order {
		a := m.arrays[id]
		if a == nil {
			continue
		}
		n := 0
		for _, h := range m.ledger.Of(id) {
			n += h.Elements.Len()
			if both := a.unfinished(h.Elements); !both.Empty() {
				return fmt.Errorf("elements %v of %v are pending and held by branch %d", both, id, h.Branch)
			}
			if both := a.foreign.Intersect(h.Elements); !both.Empty() {
				return fmt.Errorf("elements %v of %v are another's and held by branch %d", both, id, h.Branch)
			}
		}
		if n != int(a.held) {
			return fmt.Errorf("array %v: branches hold %d elements, counted %d", id, n, a.held)
		}
		if sum := a.pending + a.running + int(a.held) + a.ended + a.foreign.Len(); sum != a.n {
			return fmt.Errorf("array %v: %d pending, %d running, %d held, %d ended, %d another's: not %d", id, a.pending, a.running, a.held, a.ended, a.foreign.Len(), a.n)
		}
	}
	return nil
}
