package pmi

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOnlyTheOwnerOpensWhatWasSealed(t *testing.T) {
	mine, err := NewKey()
	require.NoError(t, err)
	other, err := NewKey()
	require.NoError(t, err)
	sealed, err := Seal(mine.Public(), []byte("a ticket"))
	require.NoError(t, err)
	require.NotContains(t, sealed, " ")
	got, err := mine.Open(sealed)
	require.NoError(t, err)
	require.Equal(t, "a ticket", string(got))
	_, err = other.Open(sealed)
	require.Error(t, err)
	for _, bad := range []string{"", "x", sealed[1:], sealed[:len(sealed)-2], "A" + sealed[1:]} {
		_, err := mine.Open(bad)
		require.Error(t, err, bad)
	}
	_, err = Seal("nonsense", nil)
	require.Error(t, err)
	again, err := Seal(mine.Public(), []byte("a ticket"))
	require.NoError(t, err)
	require.NotEqual(t, sealed, again)
}

func TestWordsOfALine(t *testing.T) {
	require.Equal(t, map[string]string{"cmd": "get_result", "rc": "0", "msg": "success", "value": "a b=c "}, words("cmd=get_result rc=0 msg=success value=a b=c \n"))
	require.Empty(t, words("\n"))
	require.Empty(t, words("nonsense"))
}

// answers serves one connection with what a server says to each line.
func answers(t *testing.T, lines map[string]string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for in := bufio.NewScanner(c); in.Scan(); {
			c.Write([]byte(lines[in.Text()]))
		}
	}()
	return ln.Addr().String()
}

// hydra's mpiexec with -pmi-port first asks who this is.
func TestAPortIsAskedFirst(t *testing.T) {
	lines := map[string]string{
		"cmd=initack pmiid=5":                     "cmd=initack rc=0\ncmd=set size=7\ncmd=set rank=5\ncmd=set debug=0\n",
		"cmd=init pmi_version=1 pmi_subversion=1": "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n",
		"cmd=get_maxes":                           "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024\n",
		"cmd=get_my_kvsname":                      "cmd=my_kvsname kvsname=kvs_1\n",
		"cmd=barrier_in":                          "cmd=barrier_out\n",
		"cmd=finalize":                            "cmd=finalize_ack\n",
	}
	vars := map[string]string{"PMI_PORT": answers(t, lines), "PMI_ID": "5", "PMI_RANK": "5", "PMI_SIZE": "7"}
	c, err := Open(func(n string) string { return vars[n] }, time.Minute)
	require.NoError(t, err)
	require.Equal(t, 5, c.Rank)
	require.Equal(t, "kvs_1", c.Space)
	require.NoError(t, c.Barrier())
	require.NoError(t, c.Close())
}

func TestAServerThatRefusesOrIsSilentIsAnError(t *testing.T) {
	for name, row := range map[string]struct {
		lines map[string]string
		want  string
		limit time.Duration
	}{
		"refuses": {map[string]string{"cmd=initack pmiid=": "cmd=initack rc=-1 msg=no\n"}, "initack: rc=-1", time.Minute},
		"silent":  {nil, "wait for initack", 100 * time.Millisecond},
		"babbles": {map[string]string{"cmd=initack pmiid=": "hello\n"}, "the answer is", time.Minute},
	} {
		vars := map[string]string{"PMI_PORT": answers(t, row.lines), "PMI_RANK": "0", "PMI_SIZE": "1"}
		_, err := Open(func(n string) string { return vars[n] }, row.limit)
		require.ErrorContains(t, err, row.want, name)
	}
	_, err := Open(func(string) string { return "" }, time.Second)
	require.ErrorIs(t, err, ErrNone)
	vars := map[string]string{"PMI_FD": "1", "PMI_RANK": "0", "PMI_SIZE": "1"}
	_, err = Open(func(n string) string { return vars[n] }, time.Second)
	require.ErrorContains(t, err, "that is no descriptor")
}
