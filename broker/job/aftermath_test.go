package job

import (
	"testing"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

func TestAftermathOfSeveralIsThatOfTheWorst(t *testing.T) {
	done := Outcome{OK: true, Result: jobspec.ResultCompleted}
	cancelled := Outcome{Result: jobspec.ResultCanceled, Status: -1}
	late := Outcome{Result: jobspec.ResultTimeout, Status: jobspec.ExitStatus(142)}
	failed := Outcome{Result: jobspec.ResultFailed, Status: jobspec.ExitStatus(2)}
	for _, c := range []struct {
		name     string
		outcomes []Outcome
		want     aftermath
		code     int
	}{
		{"all completed", []Outcome{done, done}, aftermath{jobspec.ResultCompleted, 0, 0}, 0},
		{"never run counts as 1", []Outcome{cancelled, cancelled}, aftermath{jobspec.ResultCanceled, -1, 4}, 1},
		{"some completed, some were cancelled", []Outcome{cancelled, done}, aftermath{jobspec.ResultCanceled, 0, 2}, 1},
		{"a time limit before a cancellation", []Outcome{late, cancelled}, aftermath{jobspec.ResultTimeout, jobspec.ExitStatus(142), 4}, 142},
		{"a failure before all others", []Outcome{failed, done, late, cancelled}, aftermath{jobspec.ResultFailed, jobspec.ExitStatus(142), 6}, 142},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a aftermath
			for i := range c.outcomes {
				a.count(&c.outcomes[i], 2)
			}
			require.Equal(t, c.want, a)
			require.Equal(t, c.code, a.code())
		})
	}
}
