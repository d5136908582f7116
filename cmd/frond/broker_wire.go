package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"go.uber.org/zap"

	"github.com/frond-hpc/frond/broker"
	"github.com/frond-hpc/frond/broker/branchsvc"
	"github.com/frond-hpc/frond/broker/execsvc"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/jobsvc"
	"github.com/frond-hpc/frond/broker/kvssvc"
	"github.com/frond-hpc/frond/broker/resourcesvc"
	"github.com/frond-hpc/frond/broker/rexecsvc"
	"github.com/frond-hpc/frond/broker/schedsvc"
	"github.com/frond-hpc/frond/broker/store"
	"github.com/frond-hpc/frond/exec"
	"github.com/frond-hpc/frond/exec/proc"
	"github.com/frond-hpc/frond/exec/rexecproc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay"
	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/frond-hpc/frond/resource"
)

// brokerProcess wires the parts of one broker together.
type brokerProcess struct {
	info   *boot.Info
	rank   int32
	again  bool     // the other brokers of the instance live
	join   *joinWay // nil for one that knows its place, on the leader's host
	log    *zap.Logger
	rush   func(on bool) // proc.Config.Rush
	driver *proc.Driver
	direct *rexecproc.Driver
	store  *store.Store // the leader's
	uplink *branchLink  // a branch's leader's
}

// build makes the broker. fatal ends it with a cause.
func (p *brokerProcess) build(fatal context.CancelCauseFunc) (*broker.Broker, error) {
	cfg, err := p.config()
	if err != nil {
		return nil, err
	}
	if p.rank == 0 {
		if err := p.openStore(&cfg, fatal); err != nil {
			return nil, err
		}
	}
	return broker.New(cfg)
}

// config is what all brokers have.
func (p *brokerProcess) config() (broker.Config, error) {
	tree, err := p.overlay()
	if err != nil {
		return broker.Config{}, err
	}
	transport, err := p.newTransport()
	if err != nil {
		return broker.Config{}, err
	}
	p.direct = rexecproc.New(rexecproc.Config{URI: p.info.URI(int(p.rank))})
	tasks, err := p.exec(tree)
	if err != nil {
		return broker.Config{}, err
	}
	listen := p.info.TreeAddr(int(p.rank))
	if p.info.Spread {
		listen = "tcp://*" // the transport knows better
	}
	return broker.Config{
		Name:      p.info.Name,
		Version:   version,
		RunDir:    p.info.RunDir,
		StateDir:  p.info.StateDir,
		Attrs:     attributes(p.info),
		Overlay:   tree,
		Listen:    listen,
		Transport: transport,
		Services:  []broker.ServiceSpec{tasks, {Service: rexecsvc.New(), Driver: p.direct, Await: true}},
		Log:       p.log,
		Ready:     p.ready,
	}, nil
}

// exec is the service that runs tasks on this broker's nodes.
func (p *brokerProcess) exec(tree overlay.Config) (broker.ServiceSpec, error) {
	var nodes []resource.Node
	if err := msgpack.Unmarshal(tree.Info.Resources, &nodes); err != nil {
		return broker.ServiceSpec{}, fmt.Errorf("resources of broker %d: %w", p.rank, err)
	}
	shims, err := p.shims()
	if err != nil {
		return broker.ServiceSpec{}, err
	}
	driver, err := proc.New(proc.Config{KeepEnv: p.info.KeepEnv, PathDir: shims, Nodes: nodes, Rank: p.rank, RunDir: p.info.BrokerDir(int(p.rank)), Hostname: tree.Info.Hostname,
		URI: p.info.URI(int(p.rank)), TaskURI: p.info.TaskURI, JobPath: p.info.JobPath, Env: outerEnv(p.info), Outer: p.info.Outer != "", Killed: p.clearChildren, Rush: p.rush})
	if err != nil {
		return broker.ServiceSpec{}, err
	}
	p.driver = driver
	svc := execsvc.New(execsvc.Config{UUID: tree.UUID, Exec: exec.Config{}})
	return broker.ServiceSpec{Service: svc, Driver: driver, Await: true}, nil
}

// clearChildren removes the run directories that killed child instances have left on this host.
func (p *brokerProcess) clearChildren() {
	c := childStart{parent: p.info}
	for _, base := range boot.Bases(c.getenv) {
		boot.Sweep(base)
	}
}

// outerEnv is what tasks see of the allocation that the instance is in.
func outerEnv(info *boot.Info) []string {
	if info.Outer == "" {
		return nil
	}
	return []string{"FROND_OUTER_JOBID=" + info.Outer}
}

// ready is called when the broker is a member.
func (p *brokerProcess) ready(info broker.Info) {
	time.AfterFunc(trimDelay, trimMemory)
	if p.join != nil && p.join.joined != nil {
		go p.join.joined(info.Addr)
	}
}

// joinWay is how a broker becomes a member that knows only where the leader is.
type joinWay struct {
	leaders []string          // addresses at which the leader may be reached
	local   string            // this host's address, as the leader's host sees it
	joined  func(addr string) // called when it is one, with its own address; nil = nobody wants to know
}

// joinLimit is how long a broker tries to become a member; the supervisor gives up a little later.
const joinLimit = startLimit - 5*time.Second

func (p *brokerProcess) overlay() (overlay.Config, error) {
	resources, err := p.info.LoadResources(int(p.rank))
	if err != nil {
		return overlay.Config{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return overlay.Config{}, fmt.Errorf("find out the host's name: %w", err)
	}
	cfg := overlay.Config{
		Rank: p.rank, Size: p.info.Size, Leader: p.rank == 0, Fanout: p.info.Fanout,
		UUID: fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()),
		Rand: rand.Uint64(),
		Info: overlay.Info{Hostname: host, BootID: boot.BootID(), PID: os.Getpid(), Version: version, Resources: resources},
	}
	switch {
	case cfg.Leader:
	case p.join != nil: // it knows the leader alone, and asks it for a place
		cfg.Fallback, cfg.JoinLimit = p.join.leaders, joinLimit
	default:
		cfg.Parent, cfg.Fallback = p.info.TreeAddr(p.info.Parent(int(p.rank))), p.info.Fallback(int(p.rank))
		cfg.JoinLimit = joinLimit
	}
	return cfg, nil
}

// openStore opens the state directory and adds what only the leader has.
func (p *brokerProcess) openStore(cfg *broker.Config, fatal context.CancelCauseFunc) error {
	st, loaded, err := openPatiently(p.info.StateDir, store.Options{Temp: p.info.TempState || p.info.Unsynced, MustExist: p.info.Recover, TakenOver: fatal})
	if err != nil {
		return err
	}
	p.store = st
	judgeMembers(loaded.Members, p.info.RunDir, orphanLimit)
	cfg.Overlay.Epoch = loaded.Epoch
	if p.again { // else all brokers are new, with a new certificate: those of the instance before cannot come back
		cfg.Overlay.Known = knownMembers(loaded.Members)
	}
	queues, err := jobspec.ParseQueues(p.info.Queues)
	if err != nil {
		return fmt.Errorf("queues: %w", err)
	}
	counters, err := jobspec.ParseCounters(p.info.Counters)
	if err != nil {
		return fmt.Errorf("counters: %w", err)
	}
	jobs, err := jobsvc.New(jobsvc.Config{Loaded: loaded, Lease: time.Duration(p.info.Lease * float64(time.Second)), User: uint32(os.Getuid()),
		Size: p.info.Size, Now: time.Now(), Prolog: p.info.Prolog, Epilog: p.info.Epilog, Drain: p.info.Drain, Counters: counters, Queues: queues,
		Purge: purgeLimits(p.info), Version: version, Expiration: p.info.Expiration, Branch: p.info.Branch != ""})
	if err != nil {
		return err
	}
	keys, err := kvssvc.New(kvssvc.Config{Loaded: st.KVS()})
	if err != nil {
		return fmt.Errorf("state directory %s: %w", p.info.StateDir, err)
	}
	cfg.Services = append(cfg.Services,
		broker.ServiceSpec{Service: jobs, Driver: st, Await: true},
		broker.ServiceSpec{Service: keys, Driver: st, Await: true},
		p.branches(),
		broker.ServiceSpec{Service: schedsvc.New(schedsvc.Config{Policy: p.info.Policy, Counters: counters, Expiration: p.info.Expiration})},
		broker.ServiceSpec{Service: resourcesvc.New(resourcesvc.Config{Drains: st.Drains(), Durable: true, Expiration: p.info.Expiration}), Driver: st})
	return nil
}

// branches is the service "branch"; in a branch it has the way to the parent.
func (p *brokerProcess) branches() broker.ServiceSpec {
	cfg := branchsvc.Config{Version: version, Up: branchUplink(p.info), Make: branchMake(p.info)}
	spec := broker.ServiceSpec{Service: branchsvc.New(cfg)}
	if cfg.Up != nil {
		p.uplink = newBranchLink(p.info.ParentURI)
		spec.Driver = p.uplink
	}
	return spec
}

// purgeLimits is what is to be purged by itself.
func purgeLimits(info *boot.Info) jobsvc.PurgeLimits {
	l := jobsvc.PurgeLimits{Age: time.Duration(info.InactiveAge * float64(time.Second)), HasNum: info.InactiveNum != nil}
	if l.HasNum {
		l.Num = *info.InactiveNum
	}
	return l
}

// openPatiently opens a state directory. One that is in use gets the time that a leader needs which has just lost its supervisor.
func openPatiently(dir string, opts store.Options) (*store.Store, *job.Loaded, error) {
	for end := time.Now().Add(orphanLimit); ; time.Sleep(20 * time.Millisecond) {
		st, loaded, err := store.Open(dir, opts)
		if !errors.Is(err, store.ErrInUse) || time.Now().After(end) {
			return st, loaded, err
		}
	}
}

// close ends the tasks and writes down what the leader holds.
func (p *brokerProcess) close() {
	if p.uplink != nil {
		p.uplink.close()
	}
	if p.driver != nil {
		p.driver.Close()
	}
	if p.direct != nil {
		p.direct.Close()
	}
	if p.store == nil {
		return
	}
	if err := p.store.Close(); err != nil {
		p.log.Error("state directory not closed in order", zap.Error(err))
	}
}
