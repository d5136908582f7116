package boot

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// TicketEnv is the environment variable that holds a ticket, and TicketFileEnv one that names a file with it. A broker takes
// both out of its environment before it starts anything.
const (
	TicketEnv     = "FROND_BOOT"
	TicketFileEnv = "FROND_BOOT_FILE"
)

// maxTicket bounds a ticket in bytes.
const maxTicket = 1 << 20

// Ticket is what a broker needs that is started on another host: the instance, its certificate, and where to report in. It is a
// secret: it travels by environment, standard input or a file of mode 0600, never on a command line.
type Ticket struct {
	Info Info     `json:"info"` // without a run directory: each host has its own
	Cert string   `json:"cert"`
	Meet []string `json:"meet"` // HOST:PORT where the supervisor listens, each of its addresses
}

// Encode gives a ticket's text: one word of letters, digits, - and _.
func (t *Ticket) Encode() (string, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode ticket: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(data), nil
}

// ParseTicket reads what Encode wrote. An error never contains any of it.
func ParseTicket(text string) (*Ticket, error) {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(text))
	t := new(Ticket)
	if err == nil {
		err = json.Unmarshal(data, t)
	}
	if err != nil || t.Info.ID == "" || len(t.Meet) == 0 || t.Cert == "" {
		return nil, errors.New("the ticket is malformed")
	}
	if err := CheckName(t.Info.Name); err != nil {
		return nil, fmt.Errorf("the ticket is malformed: %w", err)
	}
	return t, nil
}

// TakeTicket finds this process's ticket: the line on stdin unless that is nil, else TicketEnv, else the file of TicketFileEnv. Both
// variables are gone afterwards.
func TakeTicket(stdin io.Reader) (*Ticket, error) {
	text, file := os.Getenv(TicketEnv), os.Getenv(TicketFileEnv)
	os.Unsetenv(TicketEnv)
	os.Unsetenv(TicketFileEnv)
	var err error
	switch {
	case stdin != nil:
		var data []byte
		data, err = io.ReadAll(io.LimitReader(stdin, maxTicket))
		text = string(data)
	case text == "" && file != "":
		text, err = readSecret(file)
	case text == "":
		return nil, fmt.Errorf("neither %s nor %s is set: brokers are started by 'frond start'", TicketEnv, TicketFileEnv)
	}
	if err != nil {
		return nil, fmt.Errorf("read ticket: %w", err)
	}
	return ParseTicket(text)
}

// TicketDir is where LeaveTicket writes: below the directory that a user's hosts share, if they share any. Empty: there is none.
func TicketDir(getenv func(string) string) string {
	home := getenv("FROND_HOME")
	if home == "" {
		if home = getenv("HOME"); home == "" {
			return ""
		}
		home = filepath.Join(home, ".frond")
	}
	return filepath.Join(home, "boot")
}

// LeaveTicket writes a ticket into a new file of mode 0600 for brokers that are told its name. Who calls it removes it.
func LeaveTicket(getenv func(string) string, text string) (path string, err error) {
	dir := TicketDir(getenv)
	if dir == "" {
		return "", errors.New("neither FROND_HOME nor HOME is set")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "ticket-") // 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// readSecret reads a file of the user's that nobody else may read.
func readSecret(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var st unix.Stat_t
	switch err := unix.Fstat(int(f.Fd()), &st); {
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", fmt.Errorf("%s is no file", path)
	case int(st.Uid) != os.Getuid():
		return "", fmt.Errorf("%s belongs to another user", path)
	case st.Mode&0o077 != 0:
		return "", fmt.Errorf("%s: others have access to it (mode %o); run 'chmod 600 %s'", path, st.Mode&0o777, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxTicket))
	return string(data), err
}
