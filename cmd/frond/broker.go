package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

type brokerOptions struct {
	rank   int
	again  bool
	rundir string
	join   bool   // started on another host: with a ticket instead of a run directory
	ticket string // "-": it comes on standard input
}

func newBrokerCmd(e *env) *cobra.Command {
	o := &brokerOptions{}
	cmd := &cobra.Command{
		Use:    "broker {--rank R --rundir DIR | --join}",
		Short:  "Run one broker of an instance (frond start does)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), e) },
	}
	cmd.Flags().IntVar(&o.rank, "rank", -1, "rank of this broker")
	cmd.Flags().BoolVar(&o.again, "again", false, "this process takes the place of one that died: the other brokers live")
	cmd.Flags().StringVar(&o.rundir, "rundir", "", "run directory, with its boot file")
	cmd.Flags().BoolVar(&o.join, "join", false, "report in to whom the ticket names, which is in FROND_BOOT or in the file of FROND_BOOT_FILE; --rank is the number in the launch")
	cmd.Flags().StringVar(&o.ticket, "ticket", "", "'-': read the ticket from standard input; else from this file, if it is not in the environment")
	cmd.MarkFlagsOneRequired("rundir", "join")
	cmd.MarkFlagsMutuallyExclusive("rundir", "join")
	return cmd
}

// run is the life of a broker process. The error with which it cannot go on is left for the supervisor in a file.
func (o *brokerOptions) run(ctx context.Context, e *env) error {
	tuneMemory(e, o.rank)
	if o.join {
		return o.joinAndServe(ctx, e)
	}
	info, err := boot.Load(o.rundir)
	if err != nil {
		return err
	}
	if o.rank < 0 || o.rank >= info.Size {
		return fmt.Errorf("--rank %d: the instance has ranks 0 to %d", o.rank, info.Size-1)
	}
	os.Remove(failureFile(info, o.rank))
	err = o.serve(ctx, e, info)
	if err != nil && ctx.Err() == nil {
		os.WriteFile(failureFile(info, o.rank), []byte(err.Error()+"\n"), 0o600)
	}
	return err
}

func (o *brokerOptions) serve(ctx context.Context, e *env, info *boot.Info) error {
	dir, err := boot.OpenRunDir(info.RunDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	p := &brokerProcess{info: info, rank: int32(o.rank), again: o.again, log: newLog(e.stderr), rush: tuneRush(e)}
	return p.run(ctx, func(b *broker.Broker, cancel context.CancelCauseFunc) (release func()) {
		go watchSupervisor(cancel)
		return catchTermination(func(sig os.Signal) {
			p.driver.Interrupted()
			b.Shutdown(!info.TempState, sig.String())
		})
	})
}

// run builds the broker and runs it. Watch begins to look for what ends it.
func (p *brokerProcess) run(ctx context.Context, watch func(*broker.Broker, context.CancelCauseFunc) (release func())) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.close()
	b, err := p.build(cancel)
	if err != nil {
		return err
	}
	b.Logger().Info("broker starts", zap.Int32("rank", p.rank), zap.Int("pid", os.Getpid()), zap.String("version", version))
	defer watch(b, cancel)()
	err = b.Run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// tuneMemory keeps a broker small, as many of them may share a host: what it allocates is collected sooner than Go does by itself. The
// leader may take more, to spend less time on it. A user's GOGC counts.
func tuneMemory(e *env, rank int) {
	if e.getenv("GOGC") == "" {
		percent := 50
		if rank == 0 {
			percent = 100
		}
		debug.SetGCPercent(percent)
	}
	if e.getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procs(false))
	}
}

// procs is how many cpus a broker uses. Those of few leaves it to tasks when many short ones come: its goroutines, waking each other
// from cpu to cpu, would cost each a tenth of a millisecond.
func procs(rush bool) int {
	if rush {
		return min(max(runtime.NumCPU()/4, 1), 4)
	}
	return min(runtime.NumCPU(), 4)
}

// tuneRush is proc.Config.Rush.
func tuneRush(e *env) func(on bool) {
	if e.getenv("GOMAXPROCS") != "" {
		return nil
	}
	return func(on bool) { runtime.GOMAXPROCS(procs(on)) }
}

// newLog is the broker's log on standard error, which the supervisor has put into a file.
func newLog(w io.Writer) *zap.Logger {
	cfg := zap.NewProductionEncoderConfig()
	cfg.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.ConsoleSeparator = " "
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(cfg), zapcore.Lock(zapcore.AddSync(w)), zapcore.InfoLevel))
}

// orphanLimit is how long a broker whose supervisor is dead may take to write down what it holds.
const orphanLimit = 2 * time.Second

// watchSupervisor ends the broker when its supervisor is dead: the liveness pipe ends. That is no orderly stop, as nobody could
// wait for it: the spawners end the tasks, and the state directory has what the next leader needs.
func watchSupervisor(cancel context.CancelCauseFunc) {
	unix.CloseOnExec(brokerLiveFD)
	live := os.NewFile(brokerLiveFD, "liveness")
	var buf [1]byte
	if _, err := live.Read(buf[:]); err != io.EOF {
		return // not started by a supervisor
	}
	cancel(errOrphaned)
	time.Sleep(orphanLimit)
	os.Exit(1)
}

var errOrphaned = fmt.Errorf("the supervisor is dead")

// earlyEnd is a SIGTERM or SIGINT that may come before there is a broker that it could end.
type earlyEnd struct {
	mu   sync.Mutex
	sig  os.Signal
	then func(os.Signal)
}

// come is for catchTermination.
func (t *earlyEnd) come(sig os.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sig = sig; t.then != nil {
		t.then(sig)
	}
}

// by says what the signal does from now on; nil = nothing yet. It tells whether it has come before.
func (t *earlyEnd) by(then func(os.Signal)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.then = then; then != nil && t.sig != nil {
		then(t.sig)
	}
	return t.sig != nil
}

// catchTermination calls stop once at the first SIGTERM or SIGINT. Signals that a batch system or a terminal sends to everything
// around it are swallowed: the supervisor decides. (Not ignored: that would be inherited by tasks.)
func catchTermination(stop func(os.Signal)) (release func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGXCPU)
	quit := make(chan struct{})
	go func() {
		for stopped := false; ; {
			select {
			case sig := <-ch:
				if (sig == syscall.SIGTERM || sig == syscall.SIGINT) && !stopped {
					stopped = true
					stop(sig)
				}
			case <-quit:
				return
			}
		}
	}()
	return func() { signal.Stop(ch); close(quit) }
}

// attributes are those that the broker's own code does not know.
func attributes(info *boot.Info) map[string]string {
	attrs := map[string]string{
		"instance-level":   strconv.Itoa(info.Level),
		"security.owner":   strconv.Itoa(os.Getuid()),
		"broker.starttime": strconv.FormatFloat(info.Start, 'f', 6, 64),
		"rundir-cleanup":   "1",
		"statedir-cleanup": "0",
		"tbon.topo":        "kary:" + strconv.Itoa(info.Fanout),
	}
	if info.TempState {
		attrs["statedir-cleanup"] = "1"
	}
	if info.Prolog != "" {
		attrs["job.prolog"] = info.Prolog
	}
	if info.Epilog != "" {
		attrs["job.epilog"] = info.Epilog
	}
	if info.ParentURI != "" {
		attrs["parent-uri"], attrs["jobid"], attrs["jobid-path"] = info.ParentURI, info.JobID, info.JobPath
	}
	return attrs
}
