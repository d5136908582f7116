package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/parallel"
)

// parallelEvents follows the submissions of a run: one goroutine reads the stream and keeps the output of jobs, so that a slow reader
// of ours does not hold up the instance; ends wait in a list.
type parallelEvents struct {
	client *client.Client
	live   bool // output is passed on at once
	spill  *spillFile
	key    string
	ready  chan struct{} // one slot: something is in list
	// rereads has a slot for each job whose output is being read again
	rereads chan struct{}

	mu     sync.Mutex
	list   []parallelEvent
	chunks map[int]*parallelChunk
	ended  map[*parallelJob]bool
	epoch  int                           // of the stream
	since  map[int]int                   // chunk's tag → epoch of the stream that tells of it; 0 = none
	stream *client.Stream[api.FollowRep] // nil while it is being opened
	again  bool                          // the stream is to be opened anew
}

// parallelEvent is the end of a job, a piece of output (live), or an error that ends all.
type parallelEvent struct {
	job *parallelJob
	end *parallelEnd
	err error
}

// parallelEnd is how a job ended.
type parallelEnd struct {
	parallel.Outcome
	timedOut   bool
	start, end float64
	node       string
	note       string
}

func newParallelEvents(c *client.Client, live bool) *parallelEvents {
	return &parallelEvents{client: c, live: live, key: rand.Text(), ready: make(chan struct{}, 1), rereads: make(chan struct{}, 64), chunks: map[int]*parallelChunk{},
		ended: map[*parallelJob]bool{}, since: map[int]int{}, spill: &spillFile{}}
}

// open opens the stream; when it is open, submissions are followed.
func (p *parallelEvents) open(ctx context.Context) (*client.Stream[api.FollowRep], error) {
	p.mu.Lock()
	p.epoch++
	p.stream, p.again = nil, false
	req := api.FollowReq{Key: fmt.Sprintf("%s-%d", p.key, p.epoch)}
	for tag, c := range p.chunks {
		if c.id != 0 {
			req.Arrays = append(req.Arrays, api.FollowArray{ID: c.id, Tag: tag})
			p.since[tag] = p.epoch
		}
	}
	p.mu.Unlock()
	s, err := client.Open(ctx, p.client, api.Follow, req)
	if err != nil {
		return nil, err
	}
	if _, err := s.Next(); err != nil {
		s.Close()
		return nil, err
	}
	p.mu.Lock()
	p.stream = s
	again := p.again // a chunk that the request does not name was submitted meanwhile
	p.mu.Unlock()
	if again {
		s.Close()
	}
	return s, nil
}

// followKey is the key under which a chunk that is about to be submitted is followed; empty while no stream is open.
func (p *parallelEvents) followKey(c *parallelChunk) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stream == nil {
		return ""
	}
	p.since[c.tag] = p.epoch
	return fmt.Sprintf("%s-%d", p.key, p.epoch)
}

// submitted: a chunk has its id. If the stream was lost meanwhile, the new one does not know the chunk: it is opened once more.
func (p *parallelEvents) submitted(c *parallelChunk, id jobspec.ID) {
	p.mu.Lock()
	c.id = id
	missed := p.chunks[c.tag] != nil && p.since[c.tag] != p.epoch
	if missed {
		p.again = true
	}
	s := p.stream
	p.mu.Unlock()
	if missed && s != nil {
		s.Close()
	}
}

func (p *parallelEvents) reopens() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.again
}

// run reads the stream, and opens it anew when the connection was lost.
func (p *parallelEvents) run(ctx context.Context, s *client.Stream[api.FollowRep]) {
	for {
		rep, err := s.Next()
		if err == nil {
			p.onReply(&rep)
			continue
		}
		s.Close()
		if ctx.Err() != nil {
			return
		}
		if !p.reopens() && !errors.Is(err, io.EOF) && !transient(err) && !errors.Is(err, &wire.Error{Code: wire.TooLarge}) {
			p.push(parallelEvent{err: err})
			return
		}
		if s, err = p.open(ctx); err == nil {
			err = p.catchUp(ctx)
		}
		if err != nil {
			p.push(parallelEvent{err: err})
			return
		}
	}
}

func (p *parallelEvents) push(ev parallelEvent) {
	p.mu.Lock()
	p.list = append(p.list, ev)
	p.mu.Unlock()
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// take returns what has come.
func (p *parallelEvents) take() []parallelEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.list
	p.list = nil
	return list
}

// add makes a chunk known before it is submitted.
func (p *parallelEvents) add(c *parallelChunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunks[c.tag] = c
}

// remove forgets a chunk.
func (p *parallelEvents) remove(c *parallelChunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.chunks, c.tag)
	delete(p.since, c.tag)
	for _, j := range c.jobs {
		delete(p.ended, j)
	}
}

// onReply keeps output and notes ends.
func (p *parallelEvents) onReply(rep *api.FollowRep) {
	for i := range rep.Output {
		o := &rep.Output[i]
		j := p.job(o.Tag, o.Index)
		if j == nil || o.Stream < 1 || o.Stream > 2 {
			continue
		}
		if !p.counts(j, o.Attempt) {
			continue
		}
		p.keep(j, int(o.Stream)-1, o.Data)
		if p.live {
			p.push(parallelEvent{job: j})
		}
	}
	for i := range rep.Ended {
		e := &rep.Ended[i]
		if j := p.job(e.Tag, e.Index); j != nil {
			p.counts(j, e.Attempt)
			p.finish(j, outcomeOf(e))
		}
	}
}

// counts tells whether output of an attempt counts: an attempt that was lost, or whose end was lost with the leader, does not. What came of
// earlier ones is forgotten, if it was not printed at once.
func (p *parallelEvents) counts(j *parallelJob, attempt uint32) bool {
	if attempt > j.attempt {
		if j.attempt > 0 && !p.live {
			j.forget(p.spill)
		}
		j.attempt = attempt
	}
	return attempt == j.attempt || p.live
}

// forget gives up what is kept of a job's output.
func (j *parallelJob) forget(f *spillFile) {
	j.out[0].reset(f)
	j.out[1].reset(f)
}

func (p *parallelEvents) keep(j *parallelJob, stream int, data []byte) {
	if err := j.out[stream].write(p.spill, data); err != nil && j.err == nil {
		j.err = fmt.Errorf("keep the output of job %d: %w", j.Seq, err)
	}
}

// job finds a job that has not ended.
func (p *parallelEvents) job(tag, index int) *parallelJob {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.chunks[tag]
	if c == nil || index < 0 || index >= len(c.jobs) || p.ended[c.jobs[index]] {
		return nil
	}
	return c.jobs[index]
}

// finish notes an end, once. Output that may be incomplete is read again first, of several jobs at a time.
func (p *parallelEvents) finish(j *parallelJob, end *parallelEnd) {
	p.mu.Lock()
	p.ended[j] = true
	p.mu.Unlock()
	if !j.stale {
		p.push(parallelEvent{job: j, end: end})
		return
	}
	go func() { // ends with the client's connection at the latest
		p.rereads <- struct{}{}
		p.reread(j)
		<-p.rereads
		p.push(parallelEvent{job: j, end: end})
	}()
}

func outcomeOf(e *api.FollowEnd) *parallelEnd {
	end := &parallelEnd{start: e.Start, end: e.End, node: e.Node}
	if e.Status >= 0 {
		if end.Exit = jobspec.ExitCode(e.Status); end.Exit == 128+e.Signal {
			end.Exit, end.Signal = 0, e.Signal
		}
	}
	switch jobspec.Result(e.Result) {
	case jobspec.ResultCompleted:
	case jobspec.ResultTimeout:
		end.Exit, end.Signal, end.timedOut = -1, 15, true
	default:
		if !end.Failed() {
			end.Exit, end.Signal = -1, 15
		}
		end.note = e.Note
	}
	return end
}

// catchUp finds what happened while there was no stream.
func (p *parallelEvents) catchUp(ctx context.Context) error {
	byID := map[jobspec.ID]*parallelChunk{}
	var req api.ListReq
	p.mu.Lock()
	for _, c := range p.chunks {
		if c.id != 0 {
			byID[c.id] = c
			req.IDs = append(req.IDs, c.id)
		}
		for _, j := range c.jobs {
			j.stale = j.stale || c.id != 0 || p.since[c.tag] != p.epoch
		}
	}
	p.mu.Unlock()
	if len(req.IDs) == 0 {
		return nil
	}
	// An end that the leader learnt of before the stream was open, and that is not durable yet, is not told: it is asked for again.
	for ending := true; ending; {
		var err error
		if ending, err = p.listEnded(ctx, req, byID); err != nil {
			return err
		}
		if ending {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// listEnded takes the ends of jobs that are over, and tells whether some are about to be.
func (p *parallelEvents) listEnded(ctx context.Context, req api.ListReq, byID map[jobspec.ID]*parallelChunk) (ending bool, err error) {
	err = stream(ctx, p.client, api.List, wire.Any, req, func(rep api.ListRep) error {
		for i := range rep.Jobs {
			info := &rep.Jobs[i]
			c, index := byID[info.ID], 0
			if c == nil {
				c, index = byID[info.Array], info.Index
			}
			if c == nil {
				continue
			}
			j := p.job(c.tag, index)
			switch state := jobspec.State(info.State); {
			case j == nil:
			case state == jobspec.StateInactive:
				p.counts(j, uint32(info.Attempt))
				p.finish(j, outcomeOf(endOfInfo(info)))
			case state == jobspec.StateCleanup:
				ending = true
			}
		}
		return nil
	})
	return ending, err
}

// endOfInfo is a job's record as the end that the stream would have told.
func endOfInfo(info *api.JobInfo) *api.FollowEnd {
	end := &api.FollowEnd{Result: info.Result, Status: -1, Start: info.TRun, End: info.TInactive, Node: info.Nodelist, Note: info.ExcNote}
	if info.HasStatus {
		end.Status = info.WaitStatus
	}
	return end
}

// reread gets the whole output of an ended job from the instance. A leader that came back may learn of the end once more: it is waited
// for.
func (p *parallelEvents) reread(j *parallelJob) {
	c := j.chunk
	id := c.id
	if len(c.jobs) > 1 {
		id += 1 + jobspec.ID(j.index)
	}
	if err := p.attach(j, id); err != nil && j.err == nil {
		j.err = fmt.Errorf("read the output of job %d again: %w", j.Seq, err)
	}
}

func (p *parallelEvents) attach(j *parallelJob, id jobspec.ID) error {
	s, err := client.Open(context.Background(), p.client, api.Attach, api.AttachReq{ID: id, Output: true, Follow: true})
	if err != nil {
		return err
	}
	defer s.Close()
	restarts := -1
	for {
		rep, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n := s.Restarts(); n != restarts { // all comes from the beginning
			restarts = n
			j.forget(p.spill)
		}
		for i := range rep.Output {
			if o := &rep.Output[i]; (o.Stream == 1 || o.Stream == 2) && p.counts(j, o.Attempt) {
				p.keep(j, int(o.Stream)-1, o.Data)
			}
		}
	}
}
