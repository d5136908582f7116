package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/overlay/unix"
	"github.com/frond-hpc/frond/overlay/zmq"
	"go.uber.org/zap"
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
func newTransport(info *boot.Info, log *zap.Logger) (func(sink func(evs []any)) (overlay.Transport, error), error) {
	data, err := os.ReadFile(info.CertFile())
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := zmq.ParseCert(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.CertFile(), err)
	}
	return func(sink func(evs []any)) (overlay.Transport, error) {
		if strings.HasPrefix(info.TreeAddr(0), unix.Scheme) {
			return unix.New(unix.Config{Secret: cert.Secret, Sink: sink, Log: log})
		}
		return zmq.New(zmq.Config{Cert: cert, Sink: sink, Log: log})
	}, nil
}
