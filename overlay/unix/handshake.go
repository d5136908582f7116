package unix

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/overlay/usock"
)

// The handshake. Both sides have the certificate's secret or learn nothing of it:
//
//	listener → dialler: magic, nonce L
//	dialler → listener: magic, nonce D, HMAC-SHA256(secret, "dialler" L D)
//	listener → dialler: HMAC-SHA256(secret, "listener" L D)
//
// Each proof has the other side's random nonce in it, so it serves once, and the name of its side, so it cannot be sent back.
const (
	magic          = "frond\x00u1"
	nonceLen       = 32
	handshakeLimit = 5 * time.Second
)

var (
	errStranger = errors.New("a peer without this instance's certificate was refused")
	errNotOurs  = errors.New("the handshake failed: no broker of this instance answers there, or it has another certificate")
)

// proof is what a side sends to show that it has the secret.
func (t *Transport) proof(side string, listener, dialler []byte) []byte {
	m := hmac.New(sha256.New, []byte(t.cfg.Secret))
	m.Write([]byte(magic + side))
	m.Write(listener)
	m.Write(dialler)
	return m.Sum(nil)
}

// challenge is magic and a new nonce.
func challenge() []byte {
	b := make([]byte, len(magic)+nonceLen)
	copy(b, magic)
	_, _ = rand.Read(b[len(magic):]) // never fails
	return b
}

// hear reads magic, a nonce and extra more bytes.
func hear(nc net.Conn, extra int) (nonce, rest []byte, err error) {
	b := make([]byte, len(magic)+nonceLen+extra)
	if _, err := io.ReadFull(nc, b[:len(magic)]); err != nil {
		return nil, nil, err
	}
	if string(b[:len(magic)]) != magic {
		return nil, nil, errStranger
	}
	if _, err := io.ReadFull(nc, b[len(magic):]); err != nil {
		return nil, nil, err
	}
	b = b[len(magic):]
	return b[:nonceLen], b[nonceLen:], nil
}

// welcome is the listener's side. errStranger: the peer has shown that it does not belong here; else it has merely gone.
func (t *Transport) welcome(nc *net.UnixConn, raw syscall.RawConn) error {
	uid, err := usock.PeerUID(raw)
	if err != nil {
		return err
	}
	if !t.cfg.AllowUID(uid) {
		return fmt.Errorf("%w: it is uid %d's", errStranger, uid)
	}
	if err := nc.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return err
	}
	mine := challenge()
	if _, err := nc.Write(mine); err != nil {
		return err
	}
	nonce, proof, err := hear(nc, sha256.Size)
	if err != nil {
		return err
	}
	if !hmac.Equal(proof, t.proof("dialler", mine[len(magic):], nonce)) {
		return errStranger
	}
	if _, err := nc.Write(t.proof("listener", mine[len(magic):], nonce)); err != nil {
		return err
	}
	return nc.SetDeadline(time.Time{})
}

// introduce is the dialling side.
func (t *Transport) introduce(nc *net.UnixConn, raw syscall.RawConn) error {
	uid, err := usock.PeerUID(raw)
	if err != nil {
		return err
	}
	if !t.cfg.AllowUID(uid) {
		return fmt.Errorf("who listens there is uid %d's process", uid)
	}
	if err := nc.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return err
	}
	nonce, _, err := hear(nc, 0)
	if err != nil {
		return errNotOurs
	}
	mine := challenge()
	if _, err := nc.Write(append(mine, t.proof("dialler", nonce, mine[len(magic):])...)); err != nil {
		return errNotOurs
	}
	var proof [sha256.Size]byte
	if _, err := io.ReadFull(nc, proof[:]); err != nil || !hmac.Equal(proof[:], t.proof("listener", nonce, mine[len(magic):])) {
		return errNotOurs
	}
	return nc.SetDeadline(time.Time{})
}
