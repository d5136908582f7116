package transporttest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy forwards connections from one address to another until silence is called; then nothing passes, but nothing is closed.
func Proxy(t *testing.T, network, from, to string) (silence func()) {
	l, err := net.Listen(network, from)
	require.NoError(t, err)
	var silent atomic.Bool
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	pump := func(dst, src net.Conn) {
		defer wg.Done()
		buf := make([]byte, 4096)
		for {
			n, err := src.Read(buf)
			if err != nil {
				if !silent.Load() {
					dst.Close()
				}
				return
			}
			if !silent.Load() {
				_, _ = dst.Write(buf[:n])
			}
		}
	}
	wg.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial(network, to)
			if err != nil {
				a.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, a, b)
			mu.Unlock()
			wg.Add(2)
			go pump(a, b)
			go pump(b, a)
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return func() { silent.Store(true) }
}
