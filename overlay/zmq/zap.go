package zmq

import (
	"crypto/subtle"

	"github.com/pebbe/zmq4"
)

// zapDomain is not empty, so that the responder is asked for each connection.
const zapDomain = "frond"

// zapHandler answers ZeroMQ's question, for each connection, whether the peer's key is let in (ZeroMQ's RFC 27). Without one any key
// would be.
type zapHandler struct {
	src *source
	key []byte // the only one admitted
}

func newZAP(o *sockets) (*zapHandler, error) {
	sock, err := o.ctx.NewSocket(zmq4.ROUTER)
	if err != nil {
		return nil, err
	}
	z := &zapHandler{key: []byte(zmq4.Z85decode(o.cfg.Cert.Public))}
	if err = sock.SetLinger(0); err == nil {
		err = sock.Bind("inproc://zeromq.zap.01")
	}
	if err == nil {
		z.src, err = o.register(sock, z.drain)
	}
	if err != nil {
		_ = sock.Close()
		return nil, err
	}
	return z, nil
}

func (z *zapHandler) drain() {
	for {
		msg, err := z.src.sock.RecvMessageBytes(zmq4.DONTWAIT)
		if err != nil {
			return
		}
		if len(msg) >= 5 {
			z.answer(msg)
		}
	}
}

// answer replies to [id, "", version, request, domain, address, identity, mechanism, key].
func (z *zapHandler) answer(msg [][]byte) {
	code, text := "400", "no certificate of this instance"
	if len(msg) >= 9 && string(msg[7]) == "CURVE" && subtle.ConstantTimeCompare(msg[8], z.key) == 1 {
		code, text = "200", "OK"
	}
	// A failure means that the connection which asked is gone.
	_, _ = z.src.sock.SendMessageDontwait(msg[0], msg[1], "1.0", msg[3], code, text, "", "")
}
