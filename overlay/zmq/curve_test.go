package zmq

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay/curve"
	"github.com/pebbe/zmq4"
	"github.com/stretchr/testify/require"
)

// The package curve says that it is CURVE: libzmq has to agree.
func TestLibzmqSpeaksToCurveListener(t *testing.T) {
	cert, err := NewCert()
	require.NoError(t, err)
	keys, err := curve.ParseKeys(cert.Marshal())
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := curve.Listen(ln, keys, func(c net.Conn) { io.Copy(c, c) })
	defer l.Close()

	dial := func(own Cert) *zmq4.Socket {
		s, err := zmq4.NewSocket(zmq4.DEALER)
		require.NoError(t, err)
		require.NoError(t, s.ClientAuthCurve(cert.Public, own.Public, own.Secret))
		require.NoError(t, s.SetLinger(0))
		require.NoError(t, s.SetRcvtimeo(time.Minute))
		require.NoError(t, s.Connect("tcp://"+l.Addr().String()))
		return s
	}
	s := dial(cert)
	defer s.Close()
	_, err = s.SendBytes([]byte("hello"), 0)
	require.NoError(t, err)
	got, err := s.RecvBytes(0)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))

	other, err := NewCert()
	require.NoError(t, err)
	s = dial(other)
	defer s.Close()
	require.NoError(t, s.SetRcvtimeo(300*time.Millisecond))
	_, err = s.SendBytes([]byte("hello"), 0)
	require.NoError(t, err)
	_, err = s.RecvBytes(0)
	require.Error(t, err, "a stranger gets no answer")
}
