package sim

import (
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
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
