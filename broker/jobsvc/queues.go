package jobsvc

import (
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// enqueue puts a job into its queue: the one it names, or the default one. It returns the job as it stands in the queue.
func (s *Service) enqueue(j *jobspec.Jobspec) (*jobspec.Jobspec, error) {
	if len(s.cfg.Queues) == 0 {
		if j.Queue != "" {
			return nil, wire.Errorf(wire.Invalid, "there is no queue %.60q: this instance has no named queues (see frond start --queue)", j.Queue)
		}
		return j, nil
	}
	q := jobspec.FindQueue(s.cfg.Queues, j.Queue)
	if j.Queue == "" {
		i := slices.IndexFunc(s.cfg.Queues, func(q jobspec.Queue) bool { return q.Default })
		if i < 0 {
			return nil, wire.Errorf(wire.Invalid, "name a queue with -q: there are %s, and none of them is the default", s.queueNames())
		}
		q = &s.cfg.Queues[i]
	}
	if q == nil {
		return nil, wire.Errorf(wire.Invalid, "there is no queue %.60q; there are %s", j.Queue, s.queueNames())
	}
	k, err := q.Apply(j)
	if err == nil {
		err = q.Check(k)
	}
	if err != nil {
		return nil, wire.Errorf(wire.Invalid, "%v", err)
	}
	return k, nil
}

func (s *Service) queueNames() string {
	text := ""
	for i := range s.cfg.Queues {
		if i > 0 {
			text += ", "
		}
		text += s.cfg.Queues[i].Name
	}
	return text
}

// open refuses jobs for a queue that is disabled.
func (s *Service) open(queue string) error {
	row := s.m.QueueState(queue)
	if !row.Disabled {
		return nil
	}
	text := "submission is disabled"
	if queue != "" {
		text = "queue " + queue + ": submission is disabled"
	}
	if row.Why != "" {
		text += ": " + row.Why
	}
	return wire.Errorf(wire.Invalid, "%s", text)
}

func (s *Service) onQueues(r *rpc.Request, _ api.Empty) error {
	rep := api.QueuesRep{}
	if len(s.cfg.Queues) == 0 {
		rep.Queues = append(rep.Queues, s.queueInfo(&jobspec.Queue{Default: true}))
	}
	for i := range s.cfg.Queues {
		rep.Queues = append(rep.Queues, s.queueInfo(&s.cfg.Queues[i]))
	}
	s.out.Reply(r, rep)
	return nil
}

func (s *Service) queueInfo(q *jobspec.Queue) api.QueueInfo {
	row, pending, running := s.m.Queue(q.Name)
	return api.QueueInfo{Name: q.Name, Default: q.Default, Enabled: !row.Disabled, Started: !row.Stopped, DisableReason: row.Why, StopReason: row.WhyStop,
		Requires: q.Requires, Limit: q.Limit, DefaultDuration: q.DefaultDuration, Min: api.QueueSize(q.Min), Max: api.QueueSize(q.Max), Pending: pending, Running: running}
}

func (s *Service) onQueueSet(r *rpc.Request, req api.QueueSetReq) error {
	names := req.Names
	switch {
	case len(s.cfg.Queues) == 0 && len(names) > 0:
		return wire.Errorf(wire.Invalid, "there is no queue %.60q: this instance has no named queues", names[0])
	case len(s.cfg.Queues) == 0:
		names = []string{""}
	case req.All:
		names = nil
		for i := range s.cfg.Queues {
			names = append(names, s.cfg.Queues[i].Name)
		}
	case len(names) == 0:
		return wire.Errorf(wire.Invalid, "name a queue, or all of them with --all: there are %s", s.queueNames())
	}
	ev := job.QueueChanged{Volatile: req.NoCheckpoint}
	for _, name := range names {
		if name != "" && jobspec.FindQueue(s.cfg.Queues, name) == nil {
			return wire.Errorf(wire.Invalid, "there is no queue %.60q; there are %s", name, s.queueNames())
		}
		ev.Rows = append(ev.Rows, s.turned(name, &req))
	}
	s.step(ev)
	s.whenDurable(func(out *reactor.Out, _ error) { out.Reply(r, api.Empty{}) })
	return nil
}

// turned is the state of a queue after a request.
func (s *Service) turned(name string, req *api.QueueSetReq) job.QueueRow {
	row := s.m.QueueState(name)
	if req.Enable != nil {
		row.Disabled, row.Why = !*req.Enable, ""
		if row.Disabled {
			row.Why = req.Reason
		}
	}
	if req.Start != nil {
		row.Stopped, row.WhyStop = !*req.Start, ""
		if row.Stopped {
			row.WhyStop = req.Reason
		}
	}
	return row
}
