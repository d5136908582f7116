package curve

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"
)

// The handshake of RFC 26: HELLO and WELCOME exchange short-term keys, INITIATE proves the client's long-term key by a vouch for its
// short-term one, READY ends it. The names are the RFC's: C and S are the long-term keys, c and s with a ' the short-term ones.

const (
	readBuffer = 64 << 10
	cookieLen  = 16 + secretbox.Overhead + 64
	vouchLen   = 16 + box.Overhead + 64
)

// Client makes nc an encrypted connection to a server that has the same certificate. Deadlines are the caller's.
func Client(nc net.Conn, cert Keys) (*Conn, error) {
	c := &Conn{Conn: nc, rd: bufio.NewReaderSize(nc, readBuffer)}
	if err := c.greet(); err != nil {
		return nil, err
	}
	pub, sec, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	short := c.next()
	proof := box.Seal(nil, make([]byte, 64), nonce24("CurveZMQHELLO---", short), &cert.Public, sec)
	if err := c.command("HELLO", []byte{1, 0}, make([]byte, 72), pub[:], short, proof); err != nil {
		return nil, err
	}
	peer, cookie, err := c.welcome(cert, sec)
	if err != nil {
		return nil, err
	}
	box.Precompute(&c.shared, peer, sec)
	if err := c.initiate(cert, pub, peer, cookie); err != nil {
		return nil, err
	}
	body, err := c.expect("READY", 8+box.Overhead)
	if err != nil {
		return nil, err
	}
	if err := c.follow(body[:8]); err != nil {
		return nil, err
	}
	if _, ok := box.OpenAfterPrecomputation(nil, body[8:], nonce24("CurveZMQREADY---", body[:8]), &c.shared); !ok {
		return nil, ErrDenied
	}
	return c, nil
}

// welcome reads the server's short-term key and its cookie.
func (c *Conn) welcome(cert Keys, sec *key) (peer *key, cookie []byte, err error) {
	body, err := c.expect("WELCOME", 16+box.Overhead+32+cookieLen)
	if err != nil {
		return nil, nil, err
	}
	plain, ok := box.Open(nil, body[16:], nonce24("WELCOME-", body[:16]), &cert.Public, sec)
	if !ok || len(plain) != 32+cookieLen {
		return nil, nil, ErrDenied
	}
	return (*key)(plain[:32]), plain[32:], nil
}

// initiate proves that this end has the certificate.
func (c *Conn) initiate(cert Keys, pub, peer *key, cookie []byte) error {
	long := random16()
	vouch := box.Seal(nil, append(bytes.Clone(pub[:]), cert.Public[:]...), nonce24("VOUCH---", long), peer, &cert.Secret)
	plain := append(append(append(bytes.Clone(cert.Public[:]), long...), vouch...), metadata("DEALER")...)
	short := c.next()
	sealed := box.SealAfterPrecomputation(nil, plain, nonce24("CurveZMQINITIATE", short), &c.shared)
	return c.command("INITIATE", cookie, short, sealed)
}

// Server makes nc an encrypted connection to a client that has the same certificate. Deadlines are the caller's.
func Server(nc net.Conn, cert Keys) (*Conn, error) {
	c := &Conn{Conn: nc, rd: bufio.NewReaderSize(nc, readBuffer), server: true}
	err := c.accept(cert)
	if errors.Is(err, ErrDenied) {
		c.command("ERROR", []byte("\x03400")) // the client may have gone
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conn) accept(cert Keys) error {
	if err := c.greet(); err != nil {
		return err
	}
	peer, err := c.hello(cert)
	if err != nil {
		return err
	}
	pub, sec, err := box.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	cookie := makeCookie(peer, sec)
	long := random16()
	sealed := box.Seal(nil, append(bytes.Clone(pub[:]), cookie...), nonce24("WELCOME-", long), peer, &cert.Secret)
	if err := c.command("WELCOME", long, sealed); err != nil {
		return err
	}
	box.Precompute(&c.shared, peer, sec)
	if err := c.initiated(cert, peer, sec, cookie); err != nil {
		return err
	}
	short := c.next()
	return c.command("READY", short, box.SealAfterPrecomputation(nil, metadata("ROUTER"), nonce24("CurveZMQREADY---", short), &c.shared))
}

// hello reads the client's short-term key.
func (c *Conn) hello(cert Keys) (*key, error) {
	const size = 2 + 72 + 32 + 8 + box.Overhead + 64
	body, err := c.expect("HELLO", size)
	if err != nil {
		return nil, err
	}
	if len(body) != size || body[0] != 1 {
		return nil, errors.New("read HELLO: malformed command")
	}
	peer, short := (*key)(body[74:106]), body[106:114]
	if err := c.follow(short); err != nil {
		return nil, err
	}
	if _, ok := box.Open(nil, body[114:], nonce24("CurveZMQHELLO---", short), peer, &cert.Secret); !ok {
		return nil, ErrDenied
	}
	return peer, nil
}

// makeCookie is what RFC 26 lets a server forget meanwhile. This one keeps it, and its key is for one connection.
func makeCookie(peer, sec *key) []byte {
	var k key
	rand.Read(k[:]) // never fails (crypto/rand)
	long := random16()
	return append(bytes.Clone(long), secretbox.Seal(nil, append(bytes.Clone(peer[:]), sec[:]...), nonce24("COOKIE--", long), &k)...)
}

// initiated checks the client's proof that it has the certificate.
func (c *Conn) initiated(cert Keys, peer, sec *key, cookie []byte) error {
	body, err := c.expect("INITIATE", cookieLen+8+box.Overhead+32+vouchLen)
	if err != nil {
		return err
	}
	short := body[cookieLen : cookieLen+8]
	if subtle.ConstantTimeCompare(body[:cookieLen], cookie) != 1 {
		return ErrDenied
	}
	if err := c.follow(short); err != nil {
		return err
	}
	plain, ok := box.OpenAfterPrecomputation(nil, body[cookieLen+8:], nonce24("CurveZMQINITIATE", short), &c.shared)
	if !ok || len(plain) < 32+vouchLen || subtle.ConstantTimeCompare(plain[:32], cert.Public[:]) != 1 {
		return ErrDenied
	}
	long, sealed := plain[32:48], plain[48:32+vouchLen]
	vouch, ok := box.Open(nil, sealed, nonce24("VOUCH---", long), &cert.Public, sec)
	if !ok || !bytes.Equal(vouch, append(bytes.Clone(peer[:]), cert.Public[:]...)) {
		return ErrDenied
	}
	return nil
}

// metadata names a socket type, as ZeroMQ wants it: it lets only pairs connect that belong together.
func metadata(socket string) []byte {
	m := append([]byte("\x0bSocket-Type"), binary.BigEndian.AppendUint32(nil, uint32(len(socket)))...)
	m = append(m, socket...)
	return append(m, "\x08Identity\x00\x00\x00\x00"...)
}
