package zmq

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for many descriptors in one goroutine: an epoll descriptor that itself is in Go's netpoller. One more descriptor in it
// lets other goroutines wake the waiting one.
type poller struct {
	file   *os.File // the epoll descriptor
	raw    syscall.RawConn
	epfd   int
	wakefd int
	events [64]unix.EpollEvent
	until  time.Time // read deadline of file
}

func newPoller() (*poller, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(epfd, true); err != nil { // else the netpoller does not take it
		_ = unix.Close(epfd)
		return nil, err
	}
	p := &poller{file: os.NewFile(uintptr(epfd), "epoll"), epfd: epfd}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, err
	}
	if p.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = p.file.Close()
		return nil, err
	}
	// Edge-triggered: each write is a new event, so it need never be read.
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, p.wakefd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(p.wakefd)}); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) close() {
	_ = p.file.Close()
	_ = unix.Close(p.wakefd)
}

func (p *poller) add(fd int) error {
	return unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (p *poller) remove(fd int) {
	_ = unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil) // fails only if it was never added
}

// one is what is written to an eventfd.
var one = [8]byte{1}

// wake ends a wait. From any goroutine, until close.
func (p *poller) wake() {
	_, _ = unix.Write(p.wakefd, one[:]) // cannot fail before 2^64 of them
}

// wait appends the descriptors that can be read to fds. It waits until there is one, wake is called or the time until (zero: never) has
// come; then there can be none.
func (p *poller) wait(until time.Time, fds []int32) ([]int32, error) {
	n, err := p.sleep(until)
	for _, e := range p.events[:max(n, 0)] {
		if int(e.Fd) != p.wakefd {
			fds = append(fds, e.Fd)
		}
	}
	return fds, err
}

// look asks without waiting.
func (p *poller) look() (int, error) {
	n, err := unix.EpollWait(p.epfd, p.events[:], 0)
	if err == unix.EINTR {
		return 0, nil
	}
	return n, err
}

// sleep waits in the netpoller, which tells of changes of the epoll descriptor.
func (p *poller) sleep(until time.Time) (n int, err error) {
	if !until.Equal(p.until) {
		p.until = until
		if err := p.file.SetReadDeadline(until); err != nil {
			return 0, err
		}
	}
	var lookErr error
	err = p.raw.Read(func(uintptr) bool {
		n, lookErr = p.look()
		return n > 0 || lookErr != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return max(n, 0), errors.Join(err, lookErr)
}
