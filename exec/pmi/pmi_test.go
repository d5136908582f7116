package pmi

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func server(size int, tasks ...int) *Server {
	s := New(Config{Name: "ƒA", Size: size, Tasks: tasks, Mapping: "(vector,(0,1,2))"})
	for _, t := range tasks {
		s.Line(t, "cmd=init pmi_version=1 pmi_subversion=1")
	}
	return s
}

func TestDialogueOfRFC13(t *testing.T) {
	s := New(Config{Name: "ƒA", Size: 2, Tasks: []int{0, 1}, Mapping: "(vector,(0,1,2))"})
	long := strings.Repeat("v", maxValue)
	for _, c := range []struct{ in, out string }{
		{"cmd=init pmi_version=2 pmi_subversion=0", "cmd=response_to_init rc=-1 pmi_version=1 pmi_subversion=1"},
		{"cmd=init pmi_version=1 pmi_subversion=2", "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1"},
		{"cmd=get_maxes", "cmd=maxes rc=0 kvsname_max=64 keylen_max=64 vallen_max=1024"},
		{"cmd=get_universe_size ", "cmd=universe_size rc=0 size=2"},
		{" cmd=get_appnum", "cmd=appnum rc=0 appnum=0"},
		{"cmd=get_my_kvsname", "cmd=my_kvsname rc=0 kvsname=ƒA"},
		{"cmd=get kvsname=ƒA key=PMI_process_mapping", "cmd=get_result rc=0 value=(vector,(0,1,2))"},
		{"cmd=get kvsname=ƒA key=none", "cmd=get_result rc=4"},
		{"cmd=get kvsname=other key=none", "cmd=get_result rc=-1 msg=unknown kvsname"},
		{"cmd=put kvsname=ƒA key=k  value= a b=c ", "cmd=put_result rc=0"},
		{"cmd=get kvsname=ƒA key=k", "cmd=get_result rc=0 value= a b=c"},
		{"cmd=put kvsname=ƒA key=k value=" + long, "cmd=put_result rc=0"},
		{"cmd=put kvsname=ƒA key=k value=" + long + "v", "cmd=put_result rc=7"},
		{"cmd=put kvsname=ƒA key=" + strings.Repeat("k", 64) + " value=", "cmd=put_result rc=0"},
		{"cmd=put kvsname=ƒA key=" + strings.Repeat("k", 65) + " value=", "cmd=put_result rc=5"},
		{"cmd=put kvsname=ƒB key=k value=v", "cmd=put_result rc=-1"},
		{"cmd=publish_name service=s port=p", "cmd=publish_result rc=-1 msg=publishing names is not supported"},
		{"cmd=lookup_name service=s", "cmd=lookup_result rc=-1 msg=publishing names is not supported"},
		{"cmd=unpublish_name service=s", "cmd=unpublish_result rc=-1 msg=publishing names is not supported"},
		{"mcmd=spawn", ""}, {"nprocs=2", ""}, {"cmd=get_appnum", ""},
		{"endcmd", "cmd=spawn_result rc=-1 msg=spawn is not supported"},
		{"cmd=finalize", "cmd=finalize_ack rc=0"},
	} {
		require.Equal(t, c.out, strings.TrimSuffix(s.Line(0, c.in).Reply, "\n"), c.in)
	}
}

func TestWhatIsPutIsSeenByAllAfterTheBarrier(t *testing.T) {
	s := server(4, 2, 3)
	get := func(task int, key string) string { return s.Line(task, "cmd=get kvsname=ƒA key="+key).Reply }
	s.Line(2, "cmd=put kvsname=ƒA key=b value=2")
	s.Line(3, "cmd=put kvsname=ƒA key=a value=3")
	s.Line(3, "cmd=put kvsname=ƒA key=local::x value=here")
	require.Equal(t, "cmd=get_result rc=0 value=3\n", get(2, "a"), "puts of this node are seen at once")
	require.Equal(t, Result{Wait: true}, s.Line(2, "cmd=barrier_in"))
	require.Equal(t, Result{Wait: true, Fence: true, Pairs: []string{"a", "3", "b", "2"}}, s.Line(3, "cmd=barrier_in"))
	require.NotEmpty(t, s.Line(3, "cmd=barrier_in").Wrong)
	s.Release([]string{"a", "3", "b", "2", "c", "far"})
	require.Equal(t, "cmd=get_result rc=0 value=far\n", get(2, "c"))
	require.Equal(t, "cmd=get_result rc=0 value=here\n", get(2, "local::x"))
	s.Line(2, "cmd=barrier_in")
	require.Equal(t, Result{Wait: true, Fence: true, Pairs: []string{}}, s.Line(3, "cmd=barrier_in"), "the next barrier exchanges only what is new")
}

func TestAbortAndUnfinished(t *testing.T) {
	s := New(Config{Name: "k", Size: 2, Tasks: []int{0, 1}})
	require.False(t, s.Unfinished(0), "a task that does not use PMI owes nothing")
	require.NotEmpty(t, s.Line(0, "cmd=barrier_in").Wrong, "before init")
	s.Line(0, "cmd=init pmi_version=1 pmi_subversion=1")
	require.True(t, s.Unfinished(0))
	require.Equal(t, &Abort{Code: 7}, s.Line(0, "cmd=abort exitcode=7").Abort)
	require.Equal(t, &Abort{Code: 3, Message: "it is bad"}, s.Line(0, "cmd=abort exit_code=3 error_msg=it is bad").Abort)
	s.Line(0, "cmd=finalize")
	require.False(t, s.Unfinished(0))
	require.NotEmpty(t, s.Line(0, "cmd=nonsense").Wrong)
	require.NotEmpty(t, s.Line(9, "cmd=init").Wrong)
}

func TestPutsBetweenBarriersAreBounded(t *testing.T) {
	s := server(1, 0)
	full := false
	for i := 0; i < 9000 && !full; i++ {
		full = s.Line(0, "cmd=put kvsname=ƒA key="+strings.Repeat("k", 50)+string(rune('a'+i%26))+" value="+strings.Repeat("v", 1024)).Reply != "cmd=put_result rc=0\n"
	}
	require.True(t, full)
}

func FuzzLine(f *testing.F) {
	f.Add("cmd=put kvsname=ƒA key=k value=v")
	f.Add("mcmd=spawn")
	f.Fuzz(func(t *testing.T, line string) {
		s := server(2, 0, 1)
		r := s.Line(0, line)
		require.Equal(t, r.Reply != "", strings.HasSuffix(r.Reply, "\n"))
	})
}
