package mem_test

import (
	"testing"
	"time"

	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/mem"
	"github.com/frond-hpc/frond/overlay/transporttest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for _, row := range []struct {
		name   string
		faults mem.Faults
	}{
		{"without latency", mem.Faults{}},
		{"with latency", mem.Faults{MinLatency: 10 * time.Microsecond, MaxLatency: time.Millisecond}},
	} {
		t.Run(row.name, func(t *testing.T) {
			clock := mem.NewRealClock()
			t.Cleanup(clock.Close)
			net := mem.NewNetwork(clock, 1)
			net.SetFaults(row.faults)
			transporttest.Run(t, transporttest.Kit{
				New:  func(t *testing.T, name string, sink func(any)) overlay.Transport { return net.Transport(name, sink) },
				Addr: func(name string) string { return "mem://" + name },
				Silence: func(t *testing.T, addr string) (string, func()) {
					net.Heal()
					t.Cleanup(net.Heal)
					return addr, func() { net.Partition([]string{"a"}) }
				},
			})
		})
	}
}

// manual is a clock that moves when told.
type manual struct {
	now   time.Time
	calls []func()
}

func (c *manual) Now() time.Time                  { return c.now }
func (c *manual) After(d time.Duration, f func()) { c.calls = append(c.calls, f) }
func (c *manual) run() {
	for c.now = c.now.Add(time.Second); len(c.calls) > 0; {
		f := c.calls[0]
		c.calls = c.calls[1:]
		f()
	}
}

// link connects a and b and returns what b, the accepting side, hears from then on.
func link(t *testing.T, c *manual, n *mem.Network) (a *mem.Transport, heard *[]any) {
	heard = new([]any)
	b := n.Transport("b", func(ev any) { *heard = append(*heard, ev) })
	addr, err := b.Listen("mem://*")
	require.NoError(t, err)
	require.Equal(t, "mem://b", addr)
	a = n.Transport("a", func(any) {})
	a.Dial(1, addr)
	c.run()
	require.Len(t, *heard, 1)
	*heard = nil
	return a, heard
}

func TestFaults(t *testing.T) {
	const sent = 1000
	for _, row := range []struct {
		name     string
		faults   mem.Faults
		min, max int // frames that arrive
	}{
		{"a perfect network delivers each frame once", mem.Faults{}, sent, sent},
		{"a lossy one loses its share", mem.Faults{Drop: 0.1}, 850, 950},
		{"a doubling one doubles its share", mem.Faults{Duplicate: 0.1}, 1050, 1150},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := &manual{}
			n := mem.NewNetwork(c, 42)
			a, heard := link(t, c, n)
			n.SetFaults(row.faults)
			for i := range sent {
				a.Send(1, []byte{byte(i), byte(i >> 8)})
			}
			c.run()
			require.GreaterOrEqual(t, len(*heard), row.min)
			require.LessOrEqual(t, len(*heard), row.max)
			last := -1
			for _, ev := range *heard {
				f := ev.(overlay.ConnData).Frame
				i := int(f[0]) | int(f[1])<<8
				require.GreaterOrEqual(t, i, last, "order is kept")
				last = i
			}
		})
	}
}

func TestCrash(t *testing.T) {
	for _, row := range []struct {
		name   string
		silent bool
		events int
	}{
		{"a crashed process is heard to have ended", false, 1},
		{"a half-open one is not", true, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := &manual{}
			n := mem.NewNetwork(c, 1)
			_, heard := link(t, c, n)
			n.Crash("a", row.silent)
			c.run()
			require.Len(t, *heard, row.events)
		})
	}
}

func TestAPartitionLosesWhatIsSentAcrossIt(t *testing.T) {
	c := &manual{}
	n := mem.NewNetwork(c, 1)
	a, heard := link(t, c, n)
	n.Partition([]string{"a"})
	a.Send(1, []byte("lost"))
	c.run()
	require.Empty(t, *heard)
	n.Heal()
	a.Send(1, []byte("comes"))
	c.run()
	require.Len(t, *heard, 1)
}

func TestTheSameSeedGivesTheSameRun(t *testing.T) {
	run := func() []any {
		c := &manual{}
		n := mem.NewNetwork(c, 7)
		a, heard := link(t, c, n)
		n.SetFaults(mem.Faults{Drop: 0.3, Duplicate: 0.3, MaxLatency: time.Millisecond})
		for i := range 100 {
			a.Send(1, []byte{byte(i)})
		}
		c.run()
		return *heard
	}
	require.Equal(t, run(), run())
}
