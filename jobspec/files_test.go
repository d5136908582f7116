package jobspec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func parseFiles(files string) (*Jobspec, error) {
	return Parse([]byte(`{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}],"tasks":[{"command":["a"],"slot":"task",
		"count":{"per_slot":1}}],"attributes":{"system":{"duration":0,"files":` + files + `}}}`))
}

func TestFilesOfRFC37(t *testing.T) {
	js, err := parseFiles(`{"script":{"mode":33216,"encoding":"utf-8","size":3,"data":"ab\n"},"d/bin":{"mode":33188,"encoding":"base64","data":"/wA="},"d":{"mode":16877},
		"l":{"mode":41471,"data":"script"},"conf.json":{"mode":33188,"data":{"a":[1,true]}},"empty":{"mode":33188,"size":0}}`)
	require.NoError(t, err)
	require.Equal(t, []File{{Path: "conf.json", Mode: 0o644, Data: []byte(`{"a":[1,true]}`)}, {Path: "d", Mode: 0o755, Dir: true}, {Path: "d/bin", Mode: 0o644, Data: []byte{255, 0}},
		{Path: "empty", Mode: 0o644}, {Path: "l", Mode: 0o777, Link: "script"}, {Path: "script", Mode: 0o700, Data: []byte("ab\n")}}, js.Files)
	list, err := parseFiles(`[{"path":"script","mode":33216,"encoding":"utf-8","data":"x"}]`)
	require.NoError(t, err)
	require.Equal(t, []File{{Path: "script", Mode: 0o700, Data: []byte("x")}}, list.Files)
	text, err := js.JSON()
	require.NoError(t, err)
	again, err := Parse(text)
	require.NoError(t, err)
	require.Equal(t, js.Files, again.Files)
}

func TestFilesThatAreRefused(t *testing.T) {
	for files, want := range map[string]string{
		`{"../x":{"mode":33188}}`:                 "files.../x: must be a relative path",
		`{"/x":{"mode":33188}}`:                   "must be a relative path",
		`{"a//b":{"mode":33188}}`:                 "must be a relative path",
		`{"..":{"mode":33188}}`:                   "must be a relative path",
		`{"x":{"mode":8612}}`:                     "must be that of a file",
		`{"x":{"mode":"a"}}`:                      "files.x.mode: must be an integer",
		`{"x":{"encoding":"base64","data":"?"}}`:  "is not base64",
		`{"x":{"encoding":"blobvec","data":"?"}}`: "must be utf-8 or base64",
		`{"x":{"encoding":"utf-8","data":3}}`:     "must be a text",
		`{"x":{"mode":41471}}`:                    "data",
		`"x"`:                                     "must be an object of files",
		`[{"mode":33188}]`:                        "files",
		`{"a/../../x":{"mode":33188,"encoding":"utf-8","data":"x"}}`: "must be a relative path",
	} {
		_, err := parseFiles(files)
		require.ErrorContains(t, err, want, files)
	}
}

func TestAffinityMaps(t *testing.T) {
	sets, err := AffinityMap("map:0-3;7,9")
	require.NoError(t, err)
	require.Len(t, sets, 2)
	for _, text := range []string{"map:", "map:0;", "map:x", "map:99999999"} {
		_, err := affinity(text)
		require.Error(t, err, text)
	}
}
