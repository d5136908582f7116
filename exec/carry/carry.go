// Package carry runs a command on another host as if it were run here: Run stays where the user is and has streams, terminal and signals;
// Serve stands where something (srun, ssh) started it, and starts the command. Between them are the standard input and output of Serve,
// as that launcher carries them: no connection of their own is needed.
//
// Each message is a line: "=", a letter, and base64. Launchers treat output by lines and cut long ones, so lines of Serve are short. What
// else comes out of the launcher is no message, and is shown to the user as it is.
//
// Run says: H what to run (JSON), I input, E end of input, S a signal's number, W the terminal's rows and columns, C the number of a
// stream that nobody reads any more. Serve says: B the command was started, 1 and 2 output of that stream (0: of a terminal that is no output
// stream), A some input was taken, C nobody reads input any more, T the command was stopped from its terminal, F it could not be started, X its exit code.
//
// Input flows in at most window messages that have not been answered by A, so that a signal never waits behind it. When Serve's input
// ends, the user is gone: the command gets HUP.
package carry

import (
	"bufio"
	"encoding/base64"
	"io"
	"strconv"
	"strings"
	"sync"
)

// window is how many messages of input may be on their way, and chunk how many bytes one has at most; outChunk is the same for output:
// Slurm passes lines of less than 1024 bytes as they are.
const (
	window   = 16
	chunk    = 4096
	outChunk = 720
)

// start is the content of H.
type start struct {
	Argv [][]byte `json:"argv"`
	Env  [][]byte `json:"env"`
	Dir  string   `json:"dir"`
	TTY  [3]bool  `json:"tty"` // which of the streams are a terminal
	Rows int      `json:"rows"`
	Cols int      `json:"cols"`
}

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

// sender writes messages, from any goroutine.
type sender struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sender) send(kind byte, data []byte) error {
	line := append([]byte{'=', kind}, base64.StdEncoding.AppendEncode(nil, data)...)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(append(line, '\n'))
	return err
}

func (s *sender) number(kind byte, n int) error { return s.send(kind, []byte(strconv.Itoa(n))) }

// receive reads lines and calls take for each that is a message, and other for the rest, until the input ends.
func receive(r io.Reader, take func(kind byte, data []byte), other func(line string)) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if kind, data, ok := parse(line); ok {
			take(kind, data)
		} else if line != "" {
			other(line)
		}
		if err != nil {
			return
		}
	}
}

func parse(line string) (kind byte, data []byte, ok bool) {
	text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "=")
	if !ok || text == "" {
		return 0, nil, false
	}
	data, err := base64.StdEncoding.DecodeString(text[1:])
	return text[0], data, err == nil
}

// number reads what number wrote; 0 if it is none.
func number(data []byte) int {
	n, _ := strconv.Atoi(string(data))
	return n
}
