package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/jobsvc"
	"github.com/frond-hpc/frond/broker/resourcesvc"
	"github.com/frond-hpc/frond/broker/schedsvc"
	"github.com/frond-hpc/frond/broker/store"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
)

// historyScheme is that of the URI of an instance that has ended: history:///its/state/directory. A broker that knows what is in it, and
// has nothing to run jobs on, answers in this process, so that all that looks at jobs works as before.
const historyScheme = "history"

// dialHistory starts such a broker and connects to it. It ends with the connection.
func (e *env) dialHistory(ctx context.Context, uri string) (net.Conn, error) {
	h, err := startHistory(strings.TrimPrefix(uri, historyScheme+"://"))
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", h.socket)
	if err != nil {
		h.end()
		return nil, fmt.Errorf("connect to %s: %w", uri, err)
	}
	return &historyConn{Conn: nc, h: h}, nil
}

type historyConn struct {
	net.Conn
	h    *pastInstance
	once sync.Once
}

// Close ends the broker, too.
func (c *historyConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.h.end)
	return err
}

// pastInstance is the broker of an instance that has ended.
type pastInstance struct {
	dir    string // run directory
	socket string
	store  *store.History
	cancel context.CancelFunc
	ended  chan struct{}
}

func startHistory(statedir string) (*pastInstance, error) {
	st, err := store.OpenHistory(statedir)
	if err != nil {
		return nil, err
	}
	h := &pastInstance{store: st, ended: make(chan struct{})}
	if h.dir, err = os.MkdirTemp("", "fh"); err == nil && len(h.dir) > boot.MaxSocketPath-len("/0/local") {
		os.RemoveAll(h.dir)
		h.dir, err = os.MkdirTemp("/tmp", "fh")
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(h.dir, "0"), 0o700)
	}
	if err != nil {
		st.Close()
		return nil, fmt.Errorf("look into %s: %w", statedir, err)
	}
	h.socket = filepath.Join(h.dir, "0", "local")
	if err := h.run(statedir); err != nil {
		h.end()
		return nil, fmt.Errorf("look into %s: %w", statedir, err)
	}
	return h, nil
}

// run starts the broker and waits until it takes clients.
func (h *pastInstance) run(statedir string) error {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	jobs, err := jobsvc.New(jobsvc.Config{Now: time.Now(), User: uint32(os.Getuid()), Size: 1})
	if err != nil {
		close(h.ended)
		return err
	}
	ready := make(chan struct{})
	b, err := broker.New(broker.Config{Name: filepath.Base(statedir), Version: version, RunDir: h.dir, StateDir: statedir,
		Overlay:  overlay.Config{Rank: 0, Size: 1, Leader: true, Fanout: 1, UUID: "history", Epoch: 1},
		Services: []broker.ServiceSpec{{Service: jobs, Driver: h.store}, {Service: schedsvc.New(schedsvc.Config{})}, {Service: resourcesvc.New(resourcesvc.Config{})}},
		Ready:    func(broker.Info) { close(ready) }})
	if err != nil {
		close(h.ended)
		return err
	}
	failed := make(chan error, 1)
	go func() {
		defer close(h.ended)
		failed <- b.Run(ctx)
	}()
	select {
	case <-ready:
		return nil
	case err := <-failed:
		return errors.Join(errors.New("its jobs cannot be listed"), err)
	}
}

// end stops the broker and clears what it needed.
func (h *pastInstance) end() {
	if h.cancel != nil {
		h.cancel()
		<-h.ended
	}
	h.store.Close()
	os.RemoveAll(h.dir)
}
