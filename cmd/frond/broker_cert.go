package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/unix"
	"github.com/frond-hpc/frond/overlay/zmq"
)

// makeCert makes the instance's certificate, which all its brokers read.
func makeCert(info *boot.Info) error {
	cert, err := zmq.NewCert()
	if err != nil {
		return err
	}
	if err := os.WriteFile(info.CertFile(), cert.Marshal(), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

// newTransport is the transport of a broker: that of the scheme of its address.
func (p *brokerProcess) newTransport() (func(sink func(evs []any)) (overlay.Transport, error), error) {
	info, log := p.info, p.log
	data, err := os.ReadFile(info.CertFile())
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := zmq.ParseCert(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.CertFile(), err)
	}
	return func(sink func(evs []any)) (overlay.Transport, error) {
		if !info.Spread && strings.HasPrefix(info.TreeAddr(0), unix.Scheme) {
			return unix.New(unix.Config{Secret: cert.Secret, Sink: sink, Log: log})
		}
		t, err := zmq.New(zmq.Config{Cert: cert, Sink: sink, Log: log})
		if err != nil || !info.Spread {
			return t, err
		}
		return p.spread(t)
	}, nil
}

// spread has a transport listen where other hosts reach it: the leader on all its addresses, unless an interface was named, the others
// on the one that reaches the leader.
func (p *brokerProcess) spread(t overlay.Transport) (overlay.Transport, error) {
	addrs, err := interfaceAddrs(p.info.Interface)
	if err != nil {
		return nil, err
	}
	ports, err := parsePorts(p.info.Ports)
	if err != nil {
		return nil, err
	}
	s := &spreadTransport{Transport: t, bind: addrs[0], host: addrs[0], ports: ports, bound: func(string) error { return nil }}
	if p.join != nil {
		if p.info.Interface == "" {
			s.bind, s.host = p.join.local, p.join.local
		}
		return s, nil
	}
	if p.info.Interface == "" {
		s.bind = "0.0.0.0"
	}
	if p.again { // the others look for it where it was
		if s.again, err = p.info.LoadLeader(); err != nil {
			return nil, err
		}
	}
	s.bound = p.info.SaveLeader
	return s, nil
}
