package hostile

import (
	"fmt"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/stretchr/testify/require"
)

// tenThousandWatches watches one key ten thousand times from a leaf, writes it, and reads what each was told.
func tenThousandWatches(t *testing.T, in *instance) {
	const many = 10_000
	writer, watcher := in.dial(t, 0), in.dial(t, 3)
	put := func(value string) {
		_, err := client.Call(t.Context(), writer, api.KVSCommit, api.KVSCommitReq{Ops: []api.KVSOp{{Kind: api.KVSPut, Key: "watched", Data: []byte(value)}}})
		require.NoError(t, err)
	}
	put("0")
	streams := make([]*client.Stream[api.KVSEntry], many)
	for i := range streams {
		s, err := client.Open(t.Context(), watcher, api.KVSWatch, api.KVSWatchReq{Key: "watched"})
		require.NoError(t, err)
		streams[i] = s
	}
	for _, s := range streams {
		ent, err := s.Next()
		require.NoError(t, err)
		require.Equal(t, "0", string(ent.Data))
	}
	for i := range 20 {
		put(fmt.Sprint("value ", i))
	}
	for _, s := range streams {
		for last := ""; last != "value 19"; {
			ent, err := s.Next()
			require.NoError(t, err)
			last = string(ent.Data)
		}
	}
	require.Less(t, max(in.rss(t, 0), in.rss(t, 3)), int64(memoryLimit))
	for _, s := range streams {
		s.Close()
	}
	put("nobody watches")
}
