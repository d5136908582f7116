package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// testEnv is an env without terminal whose variables are kv.
func testEnv(kv ...string) (e *env, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	vars := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		vars[kv[i]] = kv[i+1]
	}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	return &env{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, lookup: lookup, color: "auto"}, stdout, stderr
}

func TestAMistakenStartIsRefusedWithASentence(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want string
	}{
		"no broker":                        {[]string{"-n", "0"}, "--brokers 0: must be 1 to 4096"},
		"too many brokers":                 {[]string{"-s", "5000"}, "--brokers 5000"},
		"a tree without children":          {[]string{"--fanout", "0"}, "--fanout 0: must be at least 1"},
		"recovery of nothing":              {[]string{"--recovery"}, "--recover needs --statedir"},
		"jobs kept nowhere":                {[]string{"--on-exit=keep"}, "keep needs --statedir"},
		"an unknown transport":             {[]string{"--transport=pigeon"}, "must be unix or zmq"},
		"an unknown end":                   {[]string{"--on-exit=no"}, "must be wait, cancel or keep"},
		"a name that is no file name":      {[]string{"--name", "../x"}, "instance name"},
		"a lease that is no duration":      {[]string{"--lease", "x"}, "--lease x"},
		"a lease of no time":               {[]string{"--lease", "0s"}, "--lease 0s: must be between 1s and 24h"},
		"resources that cannot be read":    {[]string{"--resources", "core["}, "--resources"},
		"resources in a file that is none": {[]string{"--resources", "@/no/file"}, "/no/file"},
	} {
		t.Run(name, func(t *testing.T) {
			e, _, stderr := testEnv("HOME", t.TempDir(), "FROND_RUNDIR", t.TempDir())
			require.Equal(t, 1, e.run(t.Context(), append([]string{"start"}, append(row.args, "true")...)))
			require.Contains(t, stderr.String(), "frond start: ")
			require.Contains(t, stderr.String(), row.want)
		})
	}
}

func TestResourcesAreDealtOutInTurn(t *testing.T) {
	o := &startOptions{brokers: 3, resources: "node[7]/core[4],gpu[2]"}
	parts, err := o.deal(&launchPlan{local: 3})
	require.NoError(t, err)
	var indexes [3][]int
	for rank, data := range parts {
		var nodes []resource.Node
		require.NoError(t, msgpack.Unmarshal(data, &nodes))
		for _, n := range nodes {
			require.Equal(t, int32(rank), n.Broker)
			require.Equal(t, 4, n.Cores.Count())
			require.Nil(t, n.CPUs, "no binding")
			indexes[rank] = append(indexes[rank], n.Index)
		}
	}
	require.Equal(t, [3][]int{{0, 3, 6}, {1, 4}, {2, 5}}, indexes)
}

func TestMoreBrokersThanCoresHaveACoreEach(t *testing.T) {
	o := &startOptions{brokers: 300}
	nodes, err := o.nodes(&launchPlan{local: 300})
	require.NoError(t, err)
	require.Len(t, nodes, 300)
	for _, n := range nodes {
		require.Equal(t, 1, n.Cores.Count())
		require.Nil(t, n.CPUs)
	}
}

func TestTheProgramFindsFrondAndTheInstance(t *testing.T) {
	got := programEnviron([]string{"A=1", "FROND_URI=old", "PATH=/bin"}, "local:///x")
	self, err := os.Executable()
	require.NoError(t, err)
	require.Equal(t, []string{"A=1", "PATH=" + filepath.Dir(self) + ":/bin", "FROND_URI=local:///x"}, got)
}

func TestBrokersDoNotInheritWhatBelongsToAnEnclosingJob(t *testing.T) {
	got := brokerEnviron([]string{"A=1", "FROND_JOB_ID=f1", "FROND_HOME=/h", "PMI_RANK=0", "PATH=/bin"})
	require.Equal(t, []string{"A=1", "FROND_HOME=/h", "PATH=/bin"}, got)
}

func TestExitCodesFollowTheShell(t *testing.T) {
	require.Equal(t, 0, statusCode(0))
	require.Equal(t, 3, statusCode(3<<8))
	require.Equal(t, 137, statusCode(syscall.WaitStatus(syscall.SIGKILL)))
}

func TestOnlyTheEndOfALogIsShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.Empty(t, endOfFile(path, 3))
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x\n", 10000)+"a\nb\n"), 0o600))
	require.Equal(t, []string{"x", "a", "b"}, endOfFile(path, 3))
}

func TestBrokersOfTheLastLeaderAreJudged(t *testing.T) {
	host, err := os.Hostname()
	require.NoError(t, err)
	rows := []job.MemberRow{
		{Rank: 0, Host: host, BootID: "an earlier boot", PID: 1, State: "online"},
		{Rank: 1, Host: host, BootID: boot.BootID(), PID: os.Getpid(), State: "online"}, // no broker
		{Rank: 2, Host: "elsewhere", BootID: "x", PID: 1, State: "online"},
		{Rank: 3, Host: host, BootID: boot.BootID(), PID: 1 << 30, State: "lost"},
	}
	judgeMembers(rows, "/r", time.Second)
	var states []string
	for _, r := range rows {
		states = append(states, r.State)
	}
	require.Equal(t, []string{"dead", "dead", "online", "dead"}, states)
	known := knownMembers(rows)
	require.Equal(t, overlay.Gone, known[0].State)
	require.Equal(t, overlay.Orphan, known[2].State)
}

func TestPropertiesReachBrokersElsewhere(t *testing.T) {
	for here, want := range map[int][][]string{
		1:  {{"first"}, {"first", "x"}}, // rank 0 is here, on b
		-1: {{"x"}, {"first"}, nil},     // rank 0 offers nothing: a, b and c are 0 to 2
	} {
		p := &launchPlan{local: 1, nodes: []string{"a", "b", "c"}, here: here}
		o := &startOptions{properties: []string{"x:a", "first:b"}}
		if here >= 0 {
			o.properties = []string{"x:a", "first:0-1"}
		}
		require.NoError(t, o.setProperties(p, nil))
		var got [][]string
		if here >= 0 {
			got = append(got, p.properties[0])
		}
		for _, s := range p.slots(1, nil) {
			got = append(got, s.place.Properties)
		}
		require.Equal(t, want, got[:len(want)], here)
	}
	err := (&startOptions{properties: []string{"x:d"}}).setProperties(&launchPlan{local: 1, nodes: []string{"a"}}, nil)
	require.EqualError(t, err, "--property: property x: there is no node d")
}
