package main

import (
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/parallel"
	"github.com/stretchr/testify/require"
)

func TestOutputOfAJobIsThatOfTheAttemptThatEnded(t *testing.T) {
	piece := func(attempt uint32, data string) api.FollowOutput {
		return api.FollowOutput{Attempt: attempt, Stream: 1, Data: []byte(data)}
	}
	for _, row := range []struct {
		name   string
		live   bool
		output []api.FollowOutput
		end    uint32
		want   string
	}{
		{"one attempt", false, []api.FollowOutput{piece(1, "a"), piece(1, "b")}, 1, "ab"},
		{"the first was lost", false, []api.FollowOutput{piece(1, "lost"), piece(2, "kept")}, 2, "kept"},
		{"output of the lost one comes late", false, []api.FollowOutput{piece(2, "kept"), piece(1, "late")}, 2, "kept"},
		{"the one that ended printed nothing", false, []api.FollowOutput{piece(1, "lost")}, 2, ""},
		{"output that is printed at once cannot be taken back", true, []api.FollowOutput{piece(1, "first"), piece(2, "second")}, 2, "firstsecond"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newParallelEvents(nil, row.live)
			j := &parallelJob{Job: &parallel.Job{}}
			c := &parallelChunk{jobs: []*parallelJob{j}}
			j.chunk = c
			p.add(c)
			p.onReply(&api.FollowRep{Output: row.output, Ended: []api.FollowEnd{{Attempt: row.end, Result: 1}}})
			p.onReply(&api.FollowRep{Output: []api.FollowOutput{piece(row.end+1, "again")}})
			text := ""
			require.NoError(t, j.out[0].each(p.spill, 0, func(b []byte) error { text += string(b); return nil }))
			require.Equal(t, row.want, text)
			list := p.take()
			require.NotNil(t, list[len(list)-1].end)
		})
	}
}

func TestAChunkThatNoStreamTellsOfHasItOpenedAnew(t *testing.T) {
	p := newParallelEvents(nil, false)
	p.epoch = 1 // it is being opened
	c := &parallelChunk{tag: 3}
	p.add(c)
	require.Empty(t, p.followKey(c), "no stream is open")
	p.submitted(c, 7)
	require.True(t, p.reopens(), "it would never hear of the end")
	require.EqualValues(t, 7, c.id)
}
