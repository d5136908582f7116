package storetest

import (
	"fmt"
	"io"

	"github.com/frond-hpc/frond/broker/job"
)

// Dump writes a store's contents as text, one line a fact, in an order that depends on the contents alone: for tests that compare
// two stores or show what is in one. store.View gives the arguments for a state directory.
func Dump(w io.Writer, l *job.Loaded, r job.Reader) error {
	fmt.Fprintf(w, "epoch %d last-id %d spec %d env %d counts %+v\n", l.Epoch, l.LastID, l.SpecID, l.EnvID, l.Counts)
	for _, m := range l.Members {
		fmt.Fprintf(w, "member %+v\n", m)
	}
	for i := range l.Arrays {
		a := &l.Arrays[i]
		fmt.Fprintf(w, "unfinished %d n %d name %q cc %q hi %d finished %v starts %+v results %+v\n",
			a.ID, a.N, a.Name, a.CC, a.Hi, a.Finished, a.Starts, a.Results)
	}
	return r.Ended(0, 0, 0, 0, func(e job.ElementRow) bool {
		fmt.Fprintf(w, "ended %d array %d index %d result %d status %d attempt %d start %.6f end %.6f nodes %q ranks %q\n",
			e.ID, e.Array, e.Index, e.Result, e.Status, e.Attempt, e.Start, e.End, e.Nodelist, e.Ranks)
		err := r.Output(e.ID, 0, func(o job.OutputRow) bool {
			fmt.Fprintf(w, "output %d attempt %d task %d stream %d offset %d %q\n", o.ID, o.Attempt, o.Task, o.Stream, o.Offset, o.Data)
			return true
		})
		if err != nil {
			fmt.Fprintf(w, "output %d: %v\n", e.ID, err)
		}
		return true
	})
}
