package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

func newJobLastCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "last [N|[A:B:C]]",
		Short: "Print the ids of the latest submissions",
		Long: `Print the id of what was submitted last, or of the last N, latest first. An array counts as one, with its own id.
A slice in Python's form picks from all, latest first: [1:3], [::-1], [:].

Exit codes: 0, or 1 when nothing was submitted.`,
		Example: "  frond logs $(frond job last)\n  frond job last 5",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pick, err := parseSlice(append(args, "1")[0])
			if err != nil {
				return err
			}
			return printLast(cmd.Context(), e, pick)
		},
	}
}

func printLast(ctx context.Context, e *env, pick func([]jobspec.ID) []jobspec.ID) error {
	return e.connected(ctx, func(c *client.Client) error {
		l := &jobListing{ctx: ctx, c: c, req: api.ListReq{Collapse: true}}
		defer l.close()
		seen := map[jobspec.ID]bool{}
		err := eachJob(l.next, func(j *api.JobInfo) error {
			if j.Array != 0 {
				seen[j.Array] = true
			} else {
				seen[j.ID] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		ids := make([]jobspec.ID, 0, len(seen))
		for id := range seen {
			ids = append(ids, id)
		}
		if len(ids) == 0 {
			return fmt.Errorf("nothing was submitted yet")
		}
		slices.Sort(ids)
		slices.Reverse(ids)
		for _, id := range pick(ids) {
			fmt.Fprintln(e.stdout, e.idText(id))
		}
		return nil
	})
}

// parseSlice reads N or Python's [A:B:C].
func parseSlice(text string) (func([]jobspec.ID) []jobspec.ID, error) {
	bad := fmt.Errorf("%q is neither a number nor a slice, as in 5, [1:3] or [::-1]", text)
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 {
			return nil, bad
		}
		return func(ids []jobspec.ID) []jobspec.ID { return ids[:min(n, len(ids))] }, nil
	}
	inner, ok := strings.CutPrefix(text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	parts := strings.Split(inner, ":")
	if !ok || !closed || len(parts) > 3 {
		return nil, bad
	}
	var set [3]bool
	var n [3]int
	for i, p := range parts {
		if p == "" {
			continue
		}
		v, err := strconv.Atoi(p)
		if err != nil || i == 2 && v == 0 {
			return nil, bad
		}
		set[i], n[i] = true, v
	}
	if len(parts) == 1 {
		if !set[0] {
			return nil, bad
		}
		return func(ids []jobspec.ID) []jobspec.ID { return sliceOf(ids, n[0], n[0]+1, 1, true, n[0] != -1) }, nil
	}
	if !set[2] {
		n[2] = 1
	}
	return func(ids []jobspec.ID) []jobspec.ID { return sliceOf(ids, n[0], n[1], n[2], set[0], set[1]) }, nil
}

// sliceOf is Python's ids[from:to:step].
func sliceOf(ids []jobspec.ID, from, to, step int, hasFrom, hasTo bool) (out []jobspec.ID) {
	size := len(ids)
	low, high := 0, size // bounds of a forward slice
	if step < 0 {
		low, high = -1, size-1
	}
	place := func(i, def int, set bool) int {
		if !set {
			return def
		}
		if i < 0 {
			i += size
		}
		return min(max(i, low), high)
	}
	if step > 0 {
		for i := place(from, low, hasFrom); i < place(to, high, hasTo); i += step {
			out = append(out, ids[i])
		}
		return out
	}
	for i := place(from, high, hasFrom); i > place(to, low, hasTo); i += step {
		out = append(out, ids[i])
	}
	return out
}
