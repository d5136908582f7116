package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/frond-hpc/frond/overlay/curve"
)

// clientListener takes clients over TCP (--listen): it proves them with CURVE and joins each to the leader's socket. It belongs to
// the supervisor, so that it outlives a leader which is restarted.
type clientListener struct {
	ln     net.Listener
	socket string // of the leader
	uri    string // for clients
	srv    *curve.Listener
}

// listenAddress is HOST:PORT of --listen.
func listenAddress(uri string) (string, error) {
	addr, ok := strings.CutPrefix(uri, "tcp://")
	host, port, err := net.SplitHostPort(addr)
	if !ok || err != nil || port == "" {
		return "", fmt.Errorf("--listen %s: want tcp://HOST:PORT, with port 0 for a free one and host * for all addresses", uri)
	}
	if host == "*" {
		host = ""
	}
	return net.JoinHostPort(host, port), nil
}

// openListener binds the address.
func openListener(uri, socket string) (*clientListener, error) {
	addr, err := listenAddress(uri)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		name, _ := os.Hostname()
		host = cmp.Or(name, "localhost")
	}
	port := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	return &clientListener{ln: ln, socket: socket, uri: "tcp://" + net.JoinHostPort(host, port)}, nil
}

// serve begins to take clients that have the certificate in certFile.
func (l *clientListener) serve(certFile string) error {
	cert, err := curve.LoadKeys(certFile)
	if err != nil {
		return err
	}
	l.srv = curve.Listen(l.ln, cert, l.join)
	return nil
}

// join copies between a client and the leader until either ends.
func (l *clientListener) join(c net.Conn) {
	broker, err := net.Dial("unix", l.socket)
	if err != nil {
		return // it is being restarted: the client tries again
	}
	var copies sync.WaitGroup
	copies.Go(func() {
		io.Copy(broker, c)
		broker.Close()
	})
	io.Copy(c, broker)
	c.Close()
	copies.Wait()
}

func (l *clientListener) close() {
	if l.srv != nil {
		l.srv.Close()
		return
	}
	l.ln.Close()
}

// listen opens --listen, if it was given.
func (s *supervisor) listen() (err error) {
	if s.o.listen == "" {
		return nil
	}
	s.listener, err = openListener(s.o.listen, s.info.Socket(0))
	if err != nil {
		return err
	}
	return s.listener.serve(s.info.CertFile())
}

// checkListen refuses what is no address, before anything is started.
func (o *startOptions) checkListen() error {
	if o.listen == "" {
		return nil
	}
	_, err := listenAddress(o.listen)
	return err
}

// publish leaves the instance's entry, and the certificate if clients on other hosts that share the home directory can use it.
func (s *supervisor) publish() error {
	if s.listener == nil {
		return s.reg.Add(s.entry, nil)
	}
	cert, err := os.ReadFile(s.info.CertFile())
	return errors.Join(err, s.reg.Add(s.entry, cert))
}
