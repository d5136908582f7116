package proc

import (
	"os"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/exectest"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// subject is an opened driver and what it told.
type subject struct {
	t  testing.TB
	d  *Driver
	mu sync.Mutex
	ev []exec.TaskEvent
	on chan struct{}
}

func open(t testing.TB, change ...func(*Config)) *subject {
	cfg := Config{Nodes: []resource.Node{{Index: 0, Name: "n0", Cores: resource.MaskRange(0, 1)}}, RunDir: t.TempDir(), Hostname: "vm", URI: "local:///run/local"}
	for _, c := range change {
		c(&cfg)
	}
	d, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(d.Close)
	s := &subject{t: t, d: d, on: make(chan struct{}, 1)}
	s.Do(exec.Open{})
	return s
}

func (s *subject) Do(effect any) {
	s.d.Do(time.Now(), effect, func(result any, err error) {
		if err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.ev = append(s.ev, result.(exec.Tasks)...)
		s.mu.Unlock()
		select {
		case s.on <- struct{}{}:
		default:
		}
	})
}

func (s *subject) Wait(ok func([]exec.TaskEvent) bool) []exec.TaskEvent {
	s.t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		s.mu.Lock()
		events := append([]exec.TaskEvent(nil), s.ev...)
		s.mu.Unlock()
		if ok(events) {
			return events
		}
		select {
		case <-s.on:
		case <-deadline:
			for _, ev := range events {
				s.t.Logf("%+v", ev)
			}
			require.FailNow(s.t, "nothing more happens")
		}
	}
}

func TestConformance(t *testing.T) {
	exectest.Run(t, func(t *testing.T) exectest.Subject { return open(t) })
}

func openFDs(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }
