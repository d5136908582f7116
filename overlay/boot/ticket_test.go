package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func ticket(t *testing.T) (*Ticket, string) {
	tk := &Ticket{Info: Info{Name: "lab", ID: "0123456789abcdef", Size: 4}, Cert: "public a b/c%\nsecret 'd'\n", Meet: []string{"10.0.0.1:5"}}
	text, err := tk.Encode()
	require.NoError(t, err)
	return tk, text
}

func TestATicketIsOneWordThatHidesNothingFromItsReader(t *testing.T) {
	tk, text := ticket(t)
	require.Equal(t, "", strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"))
	got, err := ParseTicket(text + "\n")
	require.NoError(t, err)
	require.Equal(t, tk, got)
	for _, bad := range []string{"", "x", text[1:], text[:len(text)/2], "e30"} {
		_, err := ParseTicket(bad)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestATicketIsTakenOutOfTheEnvironment(t *testing.T) {
	tk, text := ticket(t)
	t.Setenv(TicketEnv, text)
	got, err := TakeTicket(nil)
	require.NoError(t, err)
	require.Equal(t, tk, got)
	require.Empty(t, os.Getenv(TicketEnv))
	_, err = TakeTicket(nil)
	require.ErrorContains(t, err, "neither FROND_BOOT nor FROND_BOOT_FILE")

	got, err = TakeTicket(strings.NewReader(text + "\n"))
	require.NoError(t, err)
	require.Equal(t, tk, got)
}

func TestATicketsFileIsReadIfNobodyElseCan(t *testing.T) {
	tk, text := ticket(t)
	path := filepath.Join(t.TempDir(), "ticket")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	t.Setenv(TicketFileEnv, path)
	got, err := TakeTicket(nil)
	require.NoError(t, err)
	require.Equal(t, tk, got)
	require.Empty(t, os.Getenv(TicketFileEnv))

	require.NoError(t, os.Chmod(path, 0o640))
	t.Setenv(TicketFileEnv, path)
	_, err = TakeTicket(nil)
	require.ErrorContains(t, err, "chmod 600")
}

func TestBrokersOfOneHostShareARunDirectory(t *testing.T) {
	base := t.TempDir()
	getenv := func(name string) string { return map[string]string{"FROND_RUNDIR": base}[name] }
	one, two, other := Info{Name: "lab", ID: "aaaaaaaaaaaa", Size: 3}, Info{Name: "lab", ID: "aaaaaaaaaaaa", Size: 3}, Info{Name: "lab", ID: "bbbbbbbbbbbb", Size: 3, Step: "7.0"}
	d1, err := ShareRunDir(getenv, &one, 1, "cert")
	require.NoError(t, err)
	d2, err := ShareRunDir(getenv, &two, 2, "cert")
	require.NoError(t, err)
	require.Equal(t, one.RunDir, two.RunDir)
	require.DirExists(t, two.BrokerDir(2))
	cert, err := os.ReadFile(one.CertFile())
	require.NoError(t, err)
	require.Equal(t, "cert", string(cert))

	d3, err := ShareRunDir(getenv, &other, 1, "cert")
	require.NoError(t, err)
	require.NotEqual(t, one.RunDir, other.RunDir, "another instance of that name")
	require.Equal(t, other.RunDir, StepDir(getenv, "7.0"))
	require.Empty(t, StepDir(getenv, "7.1"))
	d3.Leave()
	require.NoDirExists(t, other.RunDir)

	d1.Leave()
	require.DirExists(t, two.RunDir, "one is left")
	d2.Leave()
	require.NoDirExists(t, two.RunDir)
}
