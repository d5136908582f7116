// Package meet is how a supervisor and the brokers that it had started on other hosts find each other: it listens, each of them
// reports in and is told its rank, later the leader's address, and in the end to stop. The connection stays: its end tells
// either side that the other is gone. Both ends prove to have the instance's certificate (overlay/curve). It is an adapter.
package meet

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/frond-hpc/frond/overlay/curve"
)

// maxMessage bounds one message in bytes.
const maxMessage = 1 << 20

const (
	dialLimit  = 10 * time.Second // to reach one address, with the handshake
	firstLimit = 10 * time.Second // for the first message of a peer
	writeLimit = 10 * time.Second
)

// Report is the first thing a broker says.
type Report struct {
	Protocol int     `json:"protocol"` // of messages between brokers
	Version  string  `json:"version"`
	ID       string  `json:"id"`   // of the instance
	UUID     string  `json:"uuid"` // of the process: it may report in again when the connection broke
	Rank     int     `json:"rank"` // in the launch: which task it is; -1 = unknown
	Host     string  `json:"host"`
	Node     string  `json:"node"` // as the outer scheduler calls it; empty = it does not
	BootID   string  `json:"boot_id"`
	PID      int     `json:"pid"`
	Clock    float64 `json:"clock"` // epoch seconds
}

// Word is what a broker says later.
type Word struct {
	Joined *Joined `json:"joined,omitempty"` // it is a member
	Signal int     `json:"signal,omitempty"` // it got this signal, which is for the whole instance
	Ended  bool    `json:"ended,omitempty"`  // it is about to exit
	Error  string  `json:"error,omitempty"`  // with Ended: why; empty = as it was told to
	Failed *Failed `json:"failed,omitempty"` // it was to start brokers, and could not
}

// Failed are brokers that could not be started, by their numbers in the launch: the first of them, and those that it would have started.
type Failed struct {
	Indexes []int  `json:"indexes"`
	Text    string `json:"text"` // why
}

// Joined describes a broker that has become a member.
type Joined struct {
	Addr   string `json:"addr"` // where other brokers reach it
	Cores  int    `json:"cores"`
	GPUs   int    `json:"gpus"`
	MemMiB int64  `json:"mem_mib"`
}

// Order is what a supervisor says. What is not set has been said before, or comes later.
type Order struct {
	Refused string `json:"refused,omitempty"` // the broker cannot be one of the instance
	Place   *Place `json:"place,omitempty"`
	Leader  string `json:"leader,omitempty"` // tcp://HOST:PORT; HOST is as the leader's host calls itself
	Stop    bool   `json:"stop,omitempty"`   // leave and exit
}

// Place is a broker's part in the instance.
type Place struct {
	Rank      int    `json:"rank"`
	Index     int    `json:"index"`               // of its node
	Node      string `json:"node"`                // its node's name
	Cores     int    `json:"cores,omitempty"`     // it may use so many of those that its host has; 0 = all
	MemMiB    int64  `json:"mem_mib,omitempty"`   // the same
	NoGPUs    bool   `json:"no_gpus,omitempty"`   // none was granted
	GPUs      string `json:"gpus,omitempty"`      // these were granted, as an idset; empty = what the host shows
	Oversub   int    `json:"oversub,omitempty"`   // cores offered for each
	Part      int    `json:"part,omitempty"`      // of its host, which is dealt out in so many
	Parts     int    `json:"parts,omitempty"`     // 0, 1: it has all
	Resources []byte `json:"resources,omitempty"` // msgpack of []resource.Node to offer instead

	Properties []string `json:"properties,omitempty"` // of its node
}

// Conn is a connection of either side. One goroutine may read and others write.
type Conn struct {
	nc net.Conn
	mu sync.Mutex // of writing
}

// send writes one message: its length in 4 bytes, big-endian, and JSON.
func (c *Conn) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err = c.nc.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// receive reads one message. Error io.EOF: the other side's process has closed it.
func (c *Conn) receive(v any) error {
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return fmt.Errorf("a message of %d bytes, the limit is %d", n, maxMessage)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(c.nc, data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	return nil
}

// Close ends the connection.
func (c *Conn) Close() { c.nc.Close() }

// Say sends a word to the supervisor.
func (c *Conn) Say(w Word) error { return c.send(w) }

// Next waits for the supervisor's next order. Error io.EOF: it is gone.
func (c *Conn) Next() (Order, error) {
	var o Order
	err := c.receive(&o)
	return o, err
}

// Local is this side's address, without port: that of the interface which reaches the supervisor.
func (c *Conn) Local() string { return hostOf(c.nc.LocalAddr()) }

// Remote is the supervisor's address as it was reached, without port.
func (c *Conn) Remote() string { return hostOf(c.nc.RemoteAddr()) }

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// Dial reports in at the address among addrs where the instance's supervisor answers first: which of them reach it is not known before.
func Dial(ctx context.Context, addrs []string, keys curve.Keys, r Report) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn *Conn
		err  error
	}
	results := make(chan result, len(addrs)) // nobody blocks: the last ones need not be waited for
	for _, addr := range addrs {
		go func() {
			c, err := dial(ctx, addr, keys)
			if err != nil {
				err = fmt.Errorf("%s: %w", addr, err)
			}
			results <- result{c, err}
		}()
	}
	var first *Conn
	var errs []error
	for range addrs {
		switch res := <-results; {
		case res.err != nil:
			errs = append(errs, res.err)
		case first == nil:
			first = res.conn
			cancel() // those under way end
		default:
			res.conn.Close()
		}
	}
	if first == nil {
		return nil, fmt.Errorf("cannot reach the one who starts the instance: %w", errors.Join(errs...))
	}
	if err := first.send(r); err != nil {
		first.Close()
		return nil, fmt.Errorf("report in: %w", err)
	}
	return first, nil
}

func dial(ctx context.Context, addr string, keys curve.Keys) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Now()) })()
	sec, err := curve.Client(nc, keys)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	return &Conn{nc: sec}, nil
}
