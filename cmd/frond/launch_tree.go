package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/meet"
)

// Many hosts are not reached by ssh from one: each of the first ones gets, with its ticket, some others to start, and deals them out in the same way. Who cannot
// reach a host says so to the supervisor, which then starts that one and those behind it itself.

// treeOrder is what follows the ticket on standard input: brokers to start on other hosts.
type treeOrder struct {
	SSH    []string   `json:"ssh"`  // the program, with options
	Self   string     `json:"self"` // path of frond there
	Fanout int        `json:"fanout"`
	Hosts  []treeHost `json:"hosts"`
}

// treeHost is a host and its number in the launch.
type treeHost struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
}

// shares divides hosts into at most fanout parts of about the same size. The first of each is started by who divides, the others by that one.
func shares(hosts []treeHost, fanout int) [][]treeHost {
	var out [][]treeHost
	for n := min(fanout, len(hosts)); n > 0; n-- {
		k := (len(hosts) + n - 1) / n
		out, hosts = append(out, hosts[:k]), hosts[k:]
	}
	return out
}

// command starts the first host of a group, which is told the others.
func (t *treeOrder) command(ticket string, group []treeHost) (*exec.Cmd, error) {
	argv := t.line(group[0])
	cmd := exec.Command(argv[0], argv[1:]...)
	in := ticket + "\n"
	if rest := group[1:]; len(rest) > 0 {
		more, err := json.Marshal(treeOrder{SSH: t.SSH, Self: t.Self, Fanout: t.Fanout, Hosts: rest})
		if err != nil {
			return nil, fmt.Errorf("encode launch: %w", err)
		}
		in += string(more) + "\n"
	}
	cmd.Stdin = strings.NewReader(in)
	return cmd, nil
}

func (t *treeOrder) line(h treeHost) []string {
	argv := append(append([]string{}, t.SSH...), "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", h.Name, "exec")
	return append(argv, t.Self, "broker", "--join", "--ticket=-", "--rank="+strconv.Itoa(h.Index))
}

// sshProgram is ssh, or what FROND_SSH names in its place.
func sshProgram(getenv func(string) string) []string {
	if words := strings.Fields(getenv("FROND_SSH")); len(words) > 0 {
		return words
	}
	return []string{"ssh"}
}

// maxOrder bounds what a broker reads from standard input, in bytes.
const maxOrder = 16 << 20

// readOrder takes a ticket's text and what follows it, if anything, from standard input.
func readOrder(in io.Reader) (ticket string, more *treeOrder, err error) {
	data, err := io.ReadAll(io.LimitReader(in, maxOrder))
	if err != nil {
		return "", nil, fmt.Errorf("read ticket: %w", err)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	if rest = bytes.TrimSpace(rest); len(rest) > 0 {
		more = new(treeOrder)
		if err := json.Unmarshal(rest, more); err != nil || len(more.SSH) == 0 || more.Fanout < 1 {
			return "", nil, errors.New("what follows the ticket is malformed")
		}
	}
	return string(line), more, nil
}

// launchMore starts the brokers of a tree's further hosts. They belong to the instance as this one does, and outlive this process.
func (m *membership) launchMore(t *treeOrder) {
	for _, g := range shares(t.Hosts, t.Fanout) {
		cmd, err := t.command(m.text, g)
		if err != nil {
			m.cannotLaunch(g, err.Error())
			continue
		}
		out := &tailBuffer{limit: 2 << 10}
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Env = withoutTicket(os.Environ())
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		go func() {
			if err := cmd.Run(); err != nil {
				m.cannotLaunch(g, fmt.Sprintf("%s%v", out.text, err))
			}
		}()
	}
}

// cannotLaunch tells the supervisor; a broker that has joined, and whose launcher ends later, is none of its concern any more.
func (m *membership) cannotLaunch(g []treeHost, why string) {
	f := &meet.Failed{Text: why}
	for _, h := range g {
		f.Indexes = append(f.Indexes, h.Index)
	}
	<-m.reported
	m.conn().Say(meet.Word{Failed: f})
}

func withoutTicket(environ []string) []string {
	var out []string
	for _, kv := range environ {
		if !strings.HasPrefix(kv, boot.TicketEnv) {
			out = append(out, kv)
		}
	}
	return out
}

// tailBuffer keeps the end of what is written.
type tailBuffer struct {
	text  []byte
	limit int
}

// Write never fails.
func (b *tailBuffer) Write(p []byte) (int, error) {
	b.text = append(b.text, p...)
	if n := len(b.text) - b.limit; n > 0 {
		b.text = append(b.text[:0], b.text[n:]...)
	}
	return len(p), nil
}
