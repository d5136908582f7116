package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/curve"
	"github.com/frond-hpc/frond/overlay/wire"
)

// How a client reaches an instance on another host: a listener's TCP port, or ssh with `frond relay` at its end.

// handshakeLimit is for an encrypted connection to be made, where the caller has no nearer deadline.
const handshakeLimit = 10 * time.Second

// dialTCP connects to tcp://HOST:PORT. The certificate is FROND_CERT's, or that of the instance in the registry which listens there.
func (e *env) dialTCP(ctx context.Context, uri string) (net.Conn, error) {
	addr := strings.TrimPrefix(uri, "tcp://")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, wire.Errorf(wire.Invalid, "%q is no URI of an instance: want tcp://HOST:PORT", uri)
	}
	cert, err := e.certFor(uri)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("no instance at %s: %w", uri, err)
	}
	end := time.Now().Add(handshakeLimit)
	if t, ok := ctx.Deadline(); ok && t.Before(end) {
		end = t
	}
	nc.SetDeadline(end)
	c, err := curve.Client(nc, cert)
	if err != nil {
		nc.Close()
		if errors.Is(err, curve.ErrDenied) {
			return nil, wire.Errorf(wire.Denied, "%s: %v (FROND_CERT names the file that holds it)", uri, err)
		}
		return nil, fmt.Errorf("connect to %s: %w", uri, err)
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

// certFor finds the certificate for a URI.
func (e *env) certFor(uri string) (curve.Keys, error) {
	if path := e.getenv("FROND_CERT"); path != "" {
		return loadCert(path)
	}
	reg, err := boot.OpenRegistry(e.getenv)
	if err != nil {
		return curve.Keys{}, err
	}
	all, err := reg.List()
	if err != nil {
		return curve.Keys{}, err
	}
	for _, entry := range all {
		if entry.TCP == uri {
			return loadCert(reg.CertFile(entry))
		}
	}
	return curve.Keys{}, wire.Errorf(wire.Denied, "%s: no certificate: none of your instances listens there as far as this host knows; copy the file cert "+
		"of its run directory ('frond getattr rundir' there), mode 0600, and set FROND_CERT to its path", uri)
}

func loadCert(path string) (curve.Keys, error) {
	keys, err := curve.LoadKeys(path)
	if err != nil {
		return keys, wire.Errorf(wire.Denied, "%v", err)
	}
	return keys, nil
}

// sshCommand is the command line that relays to an ssh:// URI: FROND_SSH (ssh), the host, and frond there. That is looked for in PATH
// first, then where this program lies here.
func sshCommand(uri, ssh, self string) ([]string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-") ||
		u.RawQuery != "" || u.Fragment != "" {
		return nil, wire.Errorf(wire.Invalid, "%q is no URI of an instance: want ssh://[USER@]HOST[:PORT]/path/of/socket, or /NAME instead of the path", uri)
	}
	argv := append(strings.Fields(cmp.Or(ssh, "ssh")), "-T")
	if port := u.Port(); port != "" {
		argv = append(argv, "-p", port)
	}
	host := u.Hostname()
	if user := u.User.Username(); user != "" {
		host = user + "@" + host
	}
	target := u.Path
	if name := strings.TrimPrefix(target, "/"); boot.CheckName(name) == nil {
		target = name // the shell here cannot know which instances there are there
	}
	remote := `env "PATH=$PATH:` + filepath.Dir(self) + `" frond relay ` + shellQuote(strings.TrimSuffix(target, "/"))
	if target == "" || target == "/" {
		remote = strings.TrimSuffix(remote, " ''")
	}
	return append(argv, host, remote), nil
}

// dialSSH runs ssh with one end of a socket pair as its input and output.
func (e *env) dialSSH(_ context.Context, uri string) (net.Conn, error) {
	self, _ := os.Executable()
	argv, err := sshCommand(uri, e.getenv("FROND_SSH"), self)
	if err != nil {
		return nil, err
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a pipe to %s: %w", argv[0], err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ssh"), os.NewFile(uintptr(fds[1]), "ssh")
	defer theirs.Close()
	defer ours.Close() // FileConn has a copy
	nc, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("make a pipe to %s: %w", argv[0], err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, asFile(e.stderr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !e.isTerminal(e.stdin)} // at a terminal it may have to ask for a password
	if err := cmd.Start(); err != nil {
		nc.Close()
		return nil, wire.Errorf(wire.Denied, "%s cannot be run (FROND_SSH names another program): %v", argv[0], err)
	}
	c := &sshConn{Conn: nc, uri: uri, program: argv[0], ended: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// sshConn is a connection through an ssh process. It ends with the connection: its input ends.
type sshConn struct {
	net.Conn
	uri, program string
	got          bool          // something was read
	ended        chan struct{} // closed when the process has ended
	err          error         // how
}

// Read explains a connection that ended before anything came: ssh, or frond at its end, has failed.
func (c *sshConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.got = true
	}
	if c.got || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return n, err
	}
	select {
	case <-c.ended:
	case <-time.After(time.Second):
		return n, err
	}
	if c.err == nil {
		return n, err
	}
	return n, wire.Errorf(wire.Denied, "no way to the instance at %s: %s ended: %v", c.uri, c.program, c.err)
}
