package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/frond-hpc/frond/broker"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/frond-hpc/frond/overlay/boot"
)

// follow is the life of a broker of a child instance that is not its leader: it finds that, joins, and ends as the instance does.
func (c *childStart) follow(ctx context.Context, e *env, limit time.Duration) error {
	tuneMemory(e, c.Task)
	var end earlyEnd // nothing is made before it is caught
	defer catchTermination(end.come)()
	finding, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	end.by(func(os.Signal) { cancel() })
	ticket, err := c.find(finding)
	if ended := end.by(nil); err != nil || ended {
		return cmp.Or(err, errEnded)
	}
	info := ticket.Info
	if info.Branch != "" {
		c.asBranch(&info)
	}
	dir, err := boot.ShareRunDir(c.getenv, &info, c.Task, ticket.Cert)
	if err != nil {
		return err
	}
	defer dir.Leave()
	info.ParentURI = c.uri // on this host
	data, err := msgpack.Marshal(c.Nodes)
	if err == nil {
		err = info.SaveResources(c.Task, data)
	}
	if err != nil {
		return fmt.Errorf("note resources: %w", err)
	}
	p := &brokerProcess{info: &info, rank: int32(c.Task), rush: tuneRush(e)}
	if info.Spread {
		addrs, local, err := reachable(ticket.Meet)
		if err != nil {
			return err
		}
		p.join = &joinWay{leaders: addrs, local: local}
	}
	if err := errors.Join(logTo(info.LogFile(c.Task)), os.Chdir(info.BrokerDir(c.Task))); err != nil {
		return err
	}
	p.log = newLog(e.stderr)
	return p.run(ctx, func(b *broker.Broker, _ context.CancelCauseFunc) (release func()) {
		end.by(func(sig os.Signal) { b.Shutdown(!info.TempState, sig.String()) })
		return func() {}
	})
}
