// Package curve encrypts a client's TCP connection with CurveZMQ: ZMTP 3.0 with the mechanism CURVE (ZeroMQ's RFCs 23 and 26), so that a
// ZeroMQ socket can be the other end too. What is sent as messages is one stream of bytes. Both ends have the instance's
// certificate, and admit nobody else. It is an adapter: sockets and random numbers, no protocol of Frond's.
package curve

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/nacl/box"
)

// ErrDenied says that the other end does not have the certificate.
var ErrDenied = errors.New("the other end does not have this instance's certificate")

const (
	greetingLen = 64
	maxCommand  = 2 << 10  // bytes of a command of the handshake
	maxFrame    = 32 << 20 // bytes of a message that another implementation may send
	piece       = 64 << 10 // bytes of ours in one message
)

// Flags of a ZMTP frame.
const (
	flagLong    = 2
	flagCommand = 4
)

// key is a public, secret or shared key.
type key = [32]byte

// Conn is an encrypted connection. One goroutine may read and others write.
type Conn struct {
	net.Conn
	rd     *bufio.Reader
	shared key
	server bool

	rest []byte // decrypted and not yet read
	seen uint64 // the last nonce of the other end

	mu    sync.Mutex
	nonce uint64 // ours, the last used
	out   []byte
}

// greeting is ZMTP 3.0's: signature, version, mechanism, which end is the server.
func greeting(server bool) []byte {
	g := make([]byte, greetingLen)
	g[0], g[8], g[9], g[10] = 0xff, 1, 0x7f, 3
	copy(g[12:], "CURVE")
	if server {
		g[32] = 1
	}
	return g
}

// greet exchanges greetings.
func (c *Conn) greet() error {
	if _, err := c.Conn.Write(greeting(c.server)); err != nil {
		return fmt.Errorf("send greeting: %w", err)
	}
	g := make([]byte, greetingLen)
	if _, err := io.ReadFull(c.rd, g); err != nil {
		return fmt.Errorf("read greeting: %w", err)
	}
	switch {
	case g[0] != 0xff || g[9] != 0x7f || g[10] < 3:
		return errors.New("the other end does not speak ZMTP 3")
	case !bytes.Equal(g[12:32], append([]byte("CURVE"), make([]byte, 15)...)):
		return errors.New("the other end does not ask for CURVE")
	case (g[32] == 1) == c.server:
		return errors.New("both ends want to be the same end of the connection")
	}
	return nil
}

// readFrame reads one frame of at most limit bytes.
func (c *Conn) readFrame(limit uint64) (flags byte, body []byte, err error) {
	if flags, err = c.rd.ReadByte(); err != nil {
		return 0, nil, err
	}
	var size uint64
	if flags&flagLong != 0 {
		var n [8]byte
		if _, err := io.ReadFull(c.rd, n[:]); err != nil {
			return 0, nil, noEOF(err)
		}
		size = binary.BigEndian.Uint64(n[:])
	} else {
		n, err := c.rd.ReadByte()
		if err != nil {
			return 0, nil, noEOF(err)
		}
		size = uint64(n)
	}
	if size > limit {
		return 0, nil, fmt.Errorf("a frame of %d bytes is over the limit of %d", size, limit)
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(c.rd, body); err != nil {
		return 0, nil, noEOF(err)
	}
	return flags, body, nil
}

// noEOF: the end of the stream is unexpected here.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendFrame appends the head of a frame.
func appendHead(dst []byte, flags byte, size int) []byte {
	if size < 256 {
		return append(dst, flags, byte(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, flags|flagLong), uint64(size))
}

// command sends a command of the handshake.
func (c *Conn) command(name string, parts ...[]byte) error {
	body := append([]byte{byte(len(name))}, name...)
	for _, p := range parts {
		body = append(body, p...)
	}
	if _, err := c.Conn.Write(append(appendHead(nil, flagCommand, len(body)), body...)); err != nil {
		return fmt.Errorf("send %s: %w", name, err)
	}
	return nil
}

// expect reads the command that must come next and returns what follows its name, at least size bytes.
func (c *Conn) expect(name string, size int) ([]byte, error) {
	flags, body, err := c.readFrame(maxCommand)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if flags&flagCommand == 0 || len(body) == 0 || len(body) < 1+int(body[0]) {
		return nil, fmt.Errorf("read %s: malformed command", name)
	}
	got, rest := string(body[1:1+body[0]]), body[1+body[0]:]
	switch {
	case got == "ERROR":
		return nil, ErrDenied
	case got != name || len(rest) < size:
		return nil, fmt.Errorf("read %s: malformed command", name)
	}
	return rest, nil
}

// nonce24 is a nonce of a prefix and what makes it unique.
func nonce24(prefix string, unique []byte) *[24]byte {
	var n [24]byte
	copy(n[copy(n[:], prefix):], unique)
	return &n
}

// random16 makes the long part of a nonce.
func random16() []byte {
	b := make([]byte, 16)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// next is a new short nonce of ours.
func (c *Conn) next() []byte {
	c.nonce++
	return binary.BigEndian.AppendUint64(nil, c.nonce)
}

// follow refuses a nonce of the other end that is not above the last.
func (c *Conn) follow(nonce []byte) error {
	n := binary.BigEndian.Uint64(nonce)
	if n <= c.seen {
		return errors.New("a message came twice or out of order")
	}
	c.seen = n
	return nil
}

// The prefixes of the nonces of messages, by sender.
const (
	fromClient = "CurveZMQMESSAGEC"
	fromServer = "CurveZMQMESSAGES"
)

func (c *Conn) prefixes() (ours, theirs string) {
	if c.server {
		return fromServer, fromClient
	}
	return fromClient, fromServer
}

const messageName = "\x07MESSAGE"

// Write encrypts b.
func (c *Conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours, _ := c.prefixes()
	done := 0
	for done < len(b) {
		n := min(len(b)-done, piece)
		short := c.next()
		c.out = appendHead(c.out[:0], 0, len(messageName)+len(short)+box.Overhead+1+n)
		c.out = append(append(c.out, messageName...), short...)
		plain := append(make([]byte, 1, 1+n), b[done:done+n]...)
		c.out = box.SealAfterPrecomputation(c.out, plain, nonce24(ours, short), &c.shared)
		if _, err := c.Conn.Write(c.out); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Read decrypts.
func (c *Conn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// fill reads the next message.
func (c *Conn) fill() error {
	_, body, err := c.readFrame(maxFrame)
	if err != nil {
		return err
	}
	if len(body) < len(messageName)+8+box.Overhead+1 || string(body[:len(messageName)]) != messageName {
		return errors.New("malformed message")
	}
	short, sealed := body[len(messageName):len(messageName)+8], body[len(messageName)+8:]
	if err := c.follow(short); err != nil {
		return err
	}
	_, theirs := c.prefixes()
	plain, ok := box.OpenAfterPrecomputation(nil, sealed, nonce24(theirs, short), &c.shared)
	if !ok {
		return errors.New("a message was altered on its way")
	}
	if plain[0]&flagCommand == 0 { // commands are ZeroMQ's own, such as heartbeats
		c.rest = plain[1:]
	}
	return nil
}
