package carry

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is the user's. While the command has it, it is raw: what is typed goes there, and makes the signals there.
type terminal struct {
	f    *os.File
	mu   sync.Mutex
	cook *unix.Termios // as it was; nil: it is not raw
	over bool
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (t *terminal) size() (rows, cols int) {
	w, err := unix.IoctlGetWinsize(int(t.f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(w.Row), int(w.Col)
}

// foreground tells whether this process may use the terminal now.
func (t *terminal) foreground() bool {
	pgrp, err := unix.IoctlGetInt(int(t.f.Fd()), unix.TIOCGPGRP)
	return err != nil || pgrp == unix.Getpgrp()
}

// backgroundPoll is how often a process in the background looks whether it still is.
const backgroundPoll = 200 * time.Millisecond

// await waits until this process is in the foreground, and makes the terminal raw.
func (t *terminal) await() {
	for !t.foreground() {
		time.Sleep(backgroundPoll)
	}
	t.raw()
}

// raw is cfmakeraw of termios(3).
func (t *terminal) raw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cook != nil || t.over || !t.foreground() {
		return
	}
	old, err := unix.IoctlGetTermios(int(t.f.Fd()), unix.TCGETS)
	if err != nil {
		return
	}
	now := *old
	now.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	now.Oflag &^= unix.OPOST
	now.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	now.Cflag = now.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(int(t.f.Fd()), unix.TCSETS, &now) == nil {
		t.cook = old
	}
}

// restore makes the terminal what it was.
func (t *terminal) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cook != nil {
		unix.IoctlSetTermios(int(t.f.Fd()), unix.TCSETS, t.cook)
		t.cook = nil
	}
}

// close restores the terminal for good.
func (t *terminal) close() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.restore()
}
