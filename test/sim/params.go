package sim

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/jobspec"
)

// withParams gives the elements of the submission's only item parameters: the token and the element's index. They are uploaded in parts
// whose sizes intN chooses.
func (s *submission) withParams(intN func(int) int) {
	it := &s.items[0]
	it.Params = true
	for first := 0; first < it.N; {
		part := api.ParamsReq{Token: s.token, First: first}
		for n := 1 + intN(it.N-first); n > 0; n-- {
			part.Params = append(part.Params, []string{s.token, fmt.Sprint(first)})
			first++
		}
		s.parts = append(s.parts, part)
	}
}

// checkParams sees that an element is started with its own parameters.
func (u *user) checkParams(n *node, st *exec.Start) {
	arr := st.Array
	if arr == 0 {
		arr = st.Ref.Job
	}
	if st.Params == nil {
		u.expectParams(arr, "")
		return
	}
	u.w.result.Equipped++
	u.checkLimit(arr, st.Ref.Job, u.rules[st.Params[0]].Limit)
	u.expectParams(arr, st.Params[0])
	if want := []string{st.Params[0], fmt.Sprint(st.Index)}; !slices.Equal(want, st.Params) {
		u.w.fail("element %d of %v is started on %s with the parameters %q", st.Index, arr, n.name, st.Params)
	}
}

// expectParams notes which parameters an array has.
func (u *user) expectParams(arr jobspec.ID, token string) {
	if old, ok := u.params[arr]; ok && old != token {
		u.w.fail("elements of %v have the parameters of %q and of %q", arr, old, token)
	}
	u.params[arr] = token
}

// rules are what a submission says of its elements together.
type rules struct{ Retries, Limit, MaxFails int }

// spec is a jobspec with the rules.
func (r rules) spec(bare []byte) []byte {
	array := ""
	if r.Limit > 0 {
		array = fmt.Sprintf(`"limit":%d`, r.Limit)
	}
	if r.MaxFails > 0 {
		array = strings.TrimPrefix(fmt.Sprintf(`%s,"max-fails":%d`, array, r.MaxFails), ",")
	}
	return bytes.Replace(bare, []byte(`"duration":0`), fmt.Appendf(nil, `"duration":0,"retries":%d,"array":{%s}`, r.Retries, array), 1)
}

// checkLimit counts a start.
func (u *user) checkLimit(arr, id jobspec.ID, limit int) {
	if limit == 0 || u.limited[id] != 0 {
		return
	}
	u.limited[id] = arr
	if u.runs[arr]++; u.runs[arr] > limit {
		u.w.fail("%d elements of %v run at once, the limit is %d", u.runs[arr], arr, limit)
	}
}

// runEnded counts an end.
func (u *user) runEnded(id jobspec.ID) {
	if arr := u.limited[id]; arr != 0 {
		delete(u.limited, id)
		u.runs[arr]--
	}
}

// checkRetries sees that an element that failed by itself has had its attempts.
func (u *user) checkRetries(e *job.ElementRow) {
	r := u.rules[u.params[e.Array]]
	if e.Result != uint8(jobspec.ResultFailed) || e.Status <= 0 || r.Retries == 0 {
		return
	}
	s, err := job.Fold(16, 0, e.Events)
	u.w.must(err)
	if s.Exc == nil && int(e.Attempt) <= r.Retries {
		u.w.fail("%v failed for good in attempt %d, it may run %d times again", e.ID, e.Attempt, r.Retries)
	}
	u.w.result.Exhausted++
}
