package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
)

// listOrder is Flux's order: pending jobs by priority, then id; running ones by start, newest first; inactive ones by end,
// newest first.
func listOrder(a, b *api.JobInfo) int {
	if c := cmp.Compare(stateRank(a), stateRank(b)); c != 0 {
		return c
	}
	switch stateRank(a) {
	case 0:
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ID, b.ID))
	case 1:
		return cmp.Or(cmp.Compare(b.TRun, a.TRun), cmp.Compare(b.ID, a.ID))
	}
	return cmp.Or(cmp.Compare(b.TInactive, a.TInactive), cmp.Compare(b.ID, a.ID))
}

func stateRank(j *api.JobInfo) int {
	switch s := jobspec.State(j.State); {
	case s&jobspec.StatesPending != 0:
		return 0
	case s&jobspec.StatesRunning != 0:
		return 1
	}
	return 2
}

// sortKey is one field of --sort.
type sortKey struct {
	field   string
	reverse bool
}

func parseSort(s string) ([]sortKey, error) {
	var keys []sortKey
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		name, reverse := strings.CutPrefix(f, "-")
		if _, ok := jobHeaders[name]; !ok {
			return nil, fmt.Errorf("--sort: unknown field %q; 'frond jobs -o help' lists them", name)
		}
		keys = append(keys, sortKey{name, reverse})
	}
	return keys, nil
}

// sortRecords sorts rows by keys, numbers as numbers; unset values come first.
func sortRecords(rows []record, keys []sortKey) {
	if len(keys) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b record) int {
		for _, k := range keys {
			c := compareValues(a(k.field), b(k.field))
			if k.reverse {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

func compareValues(a, b any) int {
	x, okX := number(a)
	y, okY := number(b)
	switch {
	case okX && okY:
		return cmp.Compare(x, y)
	case okX != okY && (a == nil || b == nil):
		return cmp.Compare(btoi(a != nil), btoi(b != nil))
	}
	return strings.Compare(text(a), text(b))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
