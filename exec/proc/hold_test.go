package proc

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/exec"
	"github.com/stretchr/testify/require"
)

func TestAnEndByTheSchedulersTermIsHeldUntilTheStop(t *testing.T) {
	told := make(chan exec.TaskEvent, 8)
	open := func(outer bool) *Driver {
		d, err := New(Config{RunDir: t.TempDir(), Outer: outer})
		require.NoError(t, err)
		t.Cleanup(d.Close)
		d.Do(time.Now(), exec.Open{}, func(r any, _ error) {
			for _, ev := range r.(exec.Tasks) {
				told <- ev
			}
		})
		return d
	}
	const term, failed = 15, 1 << 8
	a, b := &task{job: &job{}}, &task{job: &job{}}

	d := open(false)
	d.tellEnd(a, exec.TaskEvent{Kind: exec.TaskEnded, Status: term})
	require.Len(t, told, 1, "in no allocation nobody else sends signals to all")
	<-told

	d = open(true)
	d.tellEnd(a, exec.TaskEvent{Kind: exec.TaskEnded, Status: failed})
	require.Len(t, told, 1)
	<-told
	d.tellEnd(a, exec.TaskEvent{Kind: exec.TaskEnded, Status: term})
	require.Empty(t, told)
	require.EqualValues(t, term, (<-told).Status, "the broker was not meant: told after a moment")

	d.Interrupted()
	d.tellEnd(a, exec.TaskEvent{Kind: exec.TaskEnded, Status: 143 << 8})
	d.unhold(0, false) // what the timer does
	require.Empty(t, told)
	d.Do(time.Now(), exec.Signal{Sig: term}, nil) // the broker stops: the run is over for other reasons
	require.Len(t, told, 1)
	<-told

	b.job.told = true
	d.tellEnd(b, exec.TaskEvent{Kind: exec.TaskEnded, Status: term})
	require.Len(t, told, 1, "the signal was sent by request")
}
