// Package pmi is the client side of PMI-1's simple wire protocol, by which processes that one launcher (srun --mpi=pmi2, MPICH's mpiexec, a
// broker of Frond) has started together find each other, and what is needed to pass secrets there: what is put can be read
// by whoever listens, so secrets are sealed for a key that the other one has put. It is an adapter.
package pmi

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Client is this process's connection. Its methods are called by one goroutine at a time.
type Client struct {
	Rank, Size int
	Space      string // name of the key-value space: the same for all processes of the launch
	MaxValue   int    // longest value in bytes
	conn       conn
	in         *bufio.Reader
	limit      time.Duration
}

type conn interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	SetDeadline(time.Time) error
	Close() error
}

// ErrNone says that the environment names no PMI.
var ErrNone = errors.New("there is no PMI here")

// Open connects to the one whom the environment names (PMI_FD, or PMI_PORT with PMI_ID) and begins. Each answer, those to barriers too, may take
// as long as limit.
func Open(getenv func(string) string, limit time.Duration) (*Client, error) {
	c := &Client{limit: limit}
	var err error
	if c.Size, err = strconv.Atoi(getenv("PMI_SIZE")); err != nil {
		return nil, ErrNone
	}
	if c.Rank, err = strconv.Atoi(getenv("PMI_RANK")); err != nil {
		return nil, ErrNone
	}
	switch {
	case getenv("PMI_FD") != "":
		fd, err := strconv.Atoi(getenv("PMI_FD"))
		if err != nil || fd < 3 {
			return nil, fmt.Errorf("PMI_FD=%s: that is no descriptor", getenv("PMI_FD"))
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("PMI_FD=%d: %w", fd, err)
		}
		unix.CloseOnExec(fd)
		c.conn = os.NewFile(uintptr(fd), "PMI")
	case getenv("PMI_PORT") != "":
		if c.conn, err = net.DialTimeout("tcp", getenv("PMI_PORT"), limit); err != nil {
			return nil, fmt.Errorf("PMI_PORT: %w", err)
		}
	default:
		return nil, ErrNone
	}
	c.in = bufio.NewReader(c.conn)
	if err := c.begin(getenv("PMI_FD") == "", getenv("PMI_ID")); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

// begin says who this is, where a port does not tell that by itself, and asks for what must be known.
func (c *Client) begin(byPort bool, id string) error {
	if byPort {
		if _, err := c.ask("cmd=initack pmiid="+id, "initack"); err != nil {
			return err
		}
		for range 3 { // size, rank and debug follow by themselves
			if _, err := c.answer("set"); err != nil {
				return err
			}
		}
	}
	if _, err := c.ask("cmd=init pmi_version=1 pmi_subversion=1", "response_to_init"); err != nil {
		return err
	}
	m, err := c.ask("cmd=get_maxes", "maxes")
	if err != nil {
		return err
	}
	if c.MaxValue, err = strconv.Atoi(m["vallen_max"]); err != nil || c.MaxValue < 128 {
		return fmt.Errorf("PMI: values of %s bytes are too short", m["vallen_max"])
	}
	m, err = c.ask("cmd=get_my_kvsname", "my_kvsname")
	c.Space = m["kvsname"]
	return err
}

// ask sends a line and returns the words of the answer, which must be a want without an error.
func (c *Client) ask(line, want string) (map[string]string, error) {
	c.conn.SetDeadline(time.Now().Add(c.limit))
	if _, err := c.conn.Write([]byte(line + "\n")); err != nil {
		return nil, fmt.Errorf("PMI: %w", err)
	}
	return c.answer(want)
}

func (c *Client) answer(want string) (map[string]string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("PMI: wait for %s: %w", want, err)
	}
	m := words(line)
	if m["cmd"] != want {
		return nil, fmt.Errorf("PMI: %s was awaited, but the answer is %.80q", want, line)
	}
	if rc := m["rc"]; rc != "" && rc != "0" {
		return nil, fmt.Errorf("PMI: %s: rc=%s %s", want, rc, m["msg"])
	}
	return m, nil
}

// words splits "a=b c=d"; a value is the rest of the line.
func words(line string) map[string]string {
	m := map[string]string{}
	for rest := strings.TrimRight(line, "\r\n"); rest != ""; {
		rest = strings.TrimLeft(rest, " ")
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		if name == "value" {
			m[name] = after
			break
		}
		m[name], rest, _ = strings.Cut(after, " ")
	}
	return m
}

// Put makes a value known to all after the next Barrier. Neither key nor value may have blanks.
func (c *Client) Put(key, value string) error {
	_, err := c.ask(fmt.Sprintf("cmd=put kvsname=%s key=%s value=%s", c.Space, key, value), "put_result")
	return err
}

// Get returns what was put before the last Barrier.
func (c *Client) Get(key string) (string, error) {
	m, err := c.ask(fmt.Sprintf("cmd=get kvsname=%s key=%s", c.Space, key), "get_result")
	return m["value"], err
}

// Barrier returns when all processes of the launch are in it.
func (c *Client) Barrier() error {
	_, err := c.ask("cmd=barrier_in", "barrier_out")
	return err
}

// Close says that this process is done with PMI.
func (c *Client) Close() error {
	_, err := c.ask("cmd=finalize", "finalize_ack")
	return errors.Join(err, c.conn.Close())
}

// partSize bounds a part of a long value: Slurm takes lines of at most 1024 bytes, with all that stands before the value.
const partSize = 700

func (c *Client) part() int { return min(c.MaxValue-1, partSize) }

// PutLong puts a value that may be longer than MaxValue, in parts.
func (c *Client) PutLong(key, value string) error {
	for i := 0; ; i++ {
		n := min(len(value), c.part())
		if err := c.Put(fmt.Sprintf("%s.%d", key, i), value[:n]); err != nil {
			return err
		}
		if n < c.part() { // a short part is the last one
			return nil
		}
		value = value[n:]
	}
}

// GetLong returns what PutLong put.
func (c *Client) GetLong(key string) (string, error) {
	var text strings.Builder
	for i := 0; ; i++ {
		part, err := c.Get(fmt.Sprintf("%s.%d", key, i))
		if err != nil {
			return "", err
		}
		text.WriteString(part)
		if len(part) < c.part() {
			return text.String(), nil
		}
	}
}
