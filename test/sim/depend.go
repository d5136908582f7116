package sim

import (
	"bytes"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/jobspec"
)

// dependency is what the items of a submission wait for: an array, or what of it has the same index.
type dependency struct {
	scheme string
	target jobspec.ID
	n      int
}

// oracle knows from the store alone what ended how, and refuses starts that come too early.
type oracle struct {
	results map[jobspec.ID]jobspec.Result
	deps    map[string]*dependency // by the token of the item
	arrays  map[jobspec.ID]job.ArrayRow
	of      map[jobspec.ID]jobspec.ID // element → array
	sizes   map[jobspec.ID]int        // elements of arrays
	checked map[jobspec.ID]bool       // arrays whose dependency was found to be met
	Starts  int                       // of elements with dependencies
}

func newOracle() *oracle {
	return &oracle{results: make(map[jobspec.ID]jobspec.Result), deps: make(map[string]*dependency), arrays: make(map[jobspec.ID]job.ArrayRow),
		of: make(map[jobspec.ID]jobspec.ID), checked: make(map[jobspec.ID]bool), sizes: make(map[jobspec.ID]int)}
}

// submitted notes an array that is durable.
func (o *oracle) submitted(row job.ArrayRow) {
	o.sizes[row.ID] = row.N
	if o.deps[row.Token] == nil {
		return
	}
	o.arrays[row.ID] = row
	if row.N == 1 {
		o.of[row.ID] = row.ID
		return
	}
	for i := range row.N {
		o.of[row.ID+1+jobspec.ID(i)] = row.ID
	}
}

// started checks that an element may start; the error says why not.
func (o *oracle) started(id jobspec.ID) error {
	arr, ok := o.of[id]
	if !ok {
		return nil
	}
	o.Starts++
	row := o.arrays[arr]
	d := o.deps[row.Token]
	if d.scheme == "aftercorr" {
		if res := o.results[d.element(int(id-arr)-1)]; res != jobspec.ResultCompleted {
			return fmt.Errorf("%v starts, but what it follows by aftercorr has result %v", id, res)
		}
		return nil
	}
	if o.checked[arr] {
		return nil
	}
	o.checked[arr] = true
	bad := 0
	for i := range d.n {
		switch o.results[d.element(i)] {
		case 0:
			return fmt.Errorf("%v starts, but %v, which it waits for by %s, has not ended", id, d.element(i), d.scheme)
		case jobspec.ResultCompleted:
		default:
			bad++
		}
	}
	if d.scheme == "afterok" && bad > 0 || d.scheme == "afternotok" && bad == 0 {
		return fmt.Errorf("%v starts in spite of %s of %v, of which %d did not complete", id, d.scheme, d.target, bad)
	}
	return nil
}

func (d *dependency) element(i int) jobspec.ID {
	if d.n == 1 {
		return d.target
	}
	return d.target + 1 + jobspec.ID(i)
}

// depend lets some items of a submission wait for jobs that are known.
func (u *user) depend(s *submission) {
	for i := range s.items {
		token := fmt.Sprintf("%s/%d", s.token, i)
		if len(u.order) == 0 || u.w.oracle.deps[token] != nil || u.w.rng.IntN(4) > 0 {
			continue
		}
		it := &s.items[i]
		d := u.choose(max(it.N, 1))
		u.w.oracle.deps[token] = d
		*it = withDependency(*it, d)
	}
}

// choose picks what an item of n elements is to wait for.
func (u *user) choose(n int) *dependency {
	rng := u.w.rng
	d := &dependency{scheme: []string{"afterany", "afterok", "afternotok"}[rng.IntN(3)]}
	d.target = u.order[rng.IntN(len(u.order))]
	if rng.IntN(2) == 0 { // one that has hardly begun
		d.target = u.order[max(0, len(u.order)-1-rng.IntN(20))]
	}
	if d.n = u.known[d.target]; d.n == n && n > 1 {
		d.scheme = "aftercorr"
	}
	return d
}

func withDependency(it api.SubmitItem, d *dependency) api.SubmitItem {
	dep := fmt.Sprintf(`"system":{"dependencies":[{"scheme":%q,"value":%q}],`, d.scheme, d.target.Dec())
	it.Spec = bytes.Replace(it.Spec, []byte(`"system":{`), []byte(dep), 1)
	return it
}

// follow makes a submission of arrays as large as some that are known, so that aftercorr is used.
func (u *user) follow(s *submission) {
	if len(s.items) != 1 || s.items[0].N < 2 || u.w.rng.IntN(2) > 0 {
		return
	}
	for _, id := range u.order {
		if n := u.known[id]; n == s.items[0].N {
			d := &dependency{"aftercorr", id, n}
			u.w.oracle.deps[s.token+"/0"] = d
			s.items[0] = withDependency(s.items[0], d)
			return
		}
	}
}
