package curve

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/nacl/box"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKeys(t testing.TB) Keys {
	pub, sec, err := box.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return Keys{Public: *pub, Secret: *sec}
}

// listen serves an echo on a loopback port until the test ends.
func listen(t testing.TB, cert Keys) *Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := Listen(ln, cert, func(c net.Conn) { io.Copy(c, c) })
	t.Cleanup(l.Close)
	return l
}

func dial(t testing.TB, l *Listener) net.Conn {
	nc, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(time.Minute))
	return nc
}

func TestWhatIsWrittenIsReadAtTheOtherEnd(t *testing.T) {
	cert := newKeys(t)
	c, err := Client(dial(t, listen(t, cert)), cert)
	require.NoError(t, err)
	for _, size := range []int{1, 200, 255, 256, piece - 1, piece, piece + 1, 1 << 20} {
		sent := make([]byte, size)
		rand.Read(sent)
		var wg sync.WaitGroup
		wg.Go(func() { c.Write(sent) })
		got := make([]byte, size)
		_, err := io.ReadFull(c, got)
		wg.Wait()
		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, got), "%d bytes", size)
	}
}

func TestWhoLacksTheCertificateIsRefused(t *testing.T) {
	cert, other := newKeys(t), newKeys(t)
	l := listen(t, cert)
	_, err := Client(dial(t, l), other)
	require.ErrorIs(t, err, ErrDenied)
	// Who knows the public key alone comes as far as the vouch, and no further.
	_, err = Client(dial(t, l), Keys{Public: cert.Public, Secret: other.Secret})
	require.ErrorIs(t, err, ErrDenied)
	require.Eventually(t, func() bool { return l.Strangers() == 0 }, time.Minute, time.Millisecond)
}

// spy copies what passes between the ends.
type spy struct {
	net.Conn
	seen bytes.Buffer
}

func (s *spy) Write(b []byte) (int, error) {
	s.seen.Write(b)
	return s.Conn.Write(b)
}

func TestNothingPassesInTheClear(t *testing.T) {
	cert := newKeys(t)
	tap := &spy{Conn: dial(t, listen(t, cert))}
	c, err := Client(tap, cert)
	require.NoError(t, err)
	secret := bytes.Repeat([]byte("attack at dawn "), 10)
	_, err = c.Write(secret)
	require.NoError(t, err)
	require.NotContains(t, tap.seen.String(), "dawn")
	require.NotContains(t, tap.seen.String(), string(cert.Secret[:8]))
	require.NotContains(t, tap.seen.String(), string(cert.Public[:8]))
}

// twist flips a bit of the nth write.
type twist struct {
	net.Conn
	n int
}

func (w *twist) Write(b []byte) (int, error) {
	if w.n--; w.n == 0 {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
	}
	return w.Conn.Write(b)
}

func TestWhatWasAlteredEndsTheConnection(t *testing.T) {
	cert := newKeys(t)
	l := listen(t, cert)
	for n := 2; n <= 3; n++ { // HELLO, INITIATE
		_, err := Client(&twist{dial(t, l), n}, cert)
		require.Error(t, err, "write %d", n)
	}
	c, err := Client(&twist{dial(t, l), 4}, cert)
	require.NoError(t, err)
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 5))
	require.Error(t, err)
}

func TestAMessageThatComesTwiceIsRefused(t *testing.T) {
	cert := newKeys(t)
	tap := &spy{Conn: dial(t, listen(t, cert))}
	c, err := Client(tap, cert)
	require.NoError(t, err)
	tap.seen.Reset()
	_, err = c.Write([]byte("once"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 4))
	require.NoError(t, err)
	_, err = tap.Conn.Write(tap.seen.Bytes())
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 4))
	require.Error(t, err)
}

func TestStrangersAreBoundedAndKeepNobodyOut(t *testing.T) {
	cert := newKeys(t)
	l := listen(t, cert)
	for range 4 * maxStrangers {
		dial(t, l)
	}
	c, err := Client(dial(t, l), cert)
	require.NoError(t, err)
	_, err = c.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	require.LessOrEqual(t, l.Strangers(), maxStrangers)
}

func TestNonsenseIsAnErrorAndNothingElse(t *testing.T) {
	cert := newKeys(t)
	l := listen(t, cert)
	for name, bytes := range map[string][]byte{
		"http":            []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + string(make([]byte, 64))),
		"zeros":           make([]byte, 4096),
		"a huge frame":    append(greeting(false), 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"an empty hello":  append(greeting(false), 4, 0),
		"a name too long": append(greeting(false), 4, 2, 200, 'x'),
		"a message":       append(greeting(false), 0, 3, 1, 2, 3),
		"a short hello":   append(greeting(false), 4, 6, 5, 'H', 'E', 'L', 'L', 'O'),
	} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t, l)
			nc.Write(bytes)
			got, _ := io.ReadAll(nc) // ends: the connection is closed, or reset with our bytes unread
			require.LessOrEqual(t, len(got), 128)
		})
	}
	require.Eventually(t, func() bool { return l.Strangers() == 0 }, time.Minute, time.Millisecond)
}

func TestKeysAreReadFromAFileThatIsTheUsersAlone(t *testing.T) {
	const text = "# a comment\npublic Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\nsecret D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs\n" // RFC 26's example pair
	path := filepath.Join(t.TempDir(), "cert")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	_, err := LoadKeys(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o640))
	_, err = LoadKeys(path)
	require.ErrorContains(t, err, "chmod 600")
	_, err = LoadKeys(filepath.Dir(path))
	require.ErrorContains(t, err, "no file")
	for _, bad := range []string{"", "public x\nsecret y\n", "public Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\nsecret Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\n"} {
		_, err := ParseKeys([]byte(bad))
		require.Error(t, err)
	}
}
