package jobsvc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/idset"
)

// Limits of one submission.
const (
	maxElements = 4194304
	maxSpec     = 1 << 20
	maxToken    = 256 // bytes
)

func (s *Service) onSubmit(r *rpc.Request, req api.SubmitReq) error {
	if s.stopping {
		return wire.Errorf(wire.Unavailable, "the instance is shutting down and takes no more jobs")
	}
	if len(req.Items) == 0 {
		return wire.Errorf(wire.Invalid, "nothing to submit")
	}
	if len(req.Token) > maxToken {
		return wire.Errorf(wire.TooLarge, "the token has %d bytes; the limit is %d", len(req.Token), maxToken)
	}
	if req.Once != "" {
		s.submitOnce(r, req)
		return nil
	}
	switch ids, known := s.tokens.find(req.Token); {
	case known:
		s.replySubmitted(r, ids)
		return nil
	case s.mayBeStored(req.Token):
		s.checkToken(r, req)
		return nil
	}
	return s.withParams(r, req)
}

// recheck is how long after a restart every submission's token is looked up in the store.
const recheck = 10 * time.Minute

// mayBeStored tells whether a token that memory does not know may have been submitted before: to the leader before this one, or so long
// ago that it has been forgotten. Clients begin a token with the time in milliseconds.
func (s *Service) mayBeStored(token string) bool {
	if token == "" {
		return false
	}
	if s.cfg.Loaded != nil && s.m.Epoch() > 1 && s.now.Sub(s.started) < recheck {
		return true
	}
	ms, _, _ := strings.Cut(token, "-")
	t, err := strconv.ParseInt(ms, 10, 64)
	return s.tokens.forgot && (err != nil || t <= s.tokens.horizon)
}

func (s *Service) checkToken(r *rpc.Request, req api.SubmitReq) {
	s.query(func(rd job.Reader) (any, error) {
		ids := make([]jobspec.ID, 0, len(req.Items))
		for i := range req.Items {
			id, ok, err := rd.Token(itemToken(req.Token, i))
			if err != nil || !ok {
				return nil, err
			}
			ids = append(ids, id)
		}
		return ids, nil
	}, func(v any, err error) {
		ids, _ := v.([]jobspec.ID)
		switch {
		case err != nil:
			s.out.Fail(r, err)
		case ids != nil:
			s.out.Reply(r, api.SubmitRep{IDs: ids})
		default:
			if err := s.withParams(r, req); err != nil {
				s.out.Fail(r, err)
			}
		}
	})
}

func itemToken(token string, i int) string { return token + "/" + strconv.Itoa(i) }

// accept validates all items, then submits all. Known is what the store was asked for.
func (s *Service) accept(r *rpc.Request, req api.SubmitReq, known found) error {
	s.intern.trim()
	envs := make([]*job.Env, len(req.Envs))
	for i, data := range req.Envs {
		if err := checkEnv(data); err != nil {
			return wire.Errorf(wire.Invalid, "environment %d: %v", i+1, err)
		}
		envs[i] = s.intern.env(data)
	}
	items := make([]job.Item, len(req.Items))
	for i := range req.Items {
		if req.Items[i].Flags&job.FlagSystem != 0 && reactor.FromClient(r) {
			return itemError(wire.Errorf(wire.Denied, "that flag is for the instance itself"), i, len(req.Items))
		}
		if err := s.item(&req.Items[i], envs, known, items[:i], &items[i]); err != nil {
			if known == nil && errors.Is(err, errAskStore) {
				s.askStore(r, req)
				return nil
			}
			return itemError(err, i, len(req.Items))
		}
		items[i].User, items[i].Digest = r.User, req.Items[i].Digest
		if req.Token != "" {
			items[i].Token = itemToken(req.Token, i)
		}
		if req.Items[i].Params {
			set, err := s.uploads.take(uploadToken(&req, i), items[i].N)
			if err != nil {
				return itemError(err, i, len(req.Items))
			}
			items[i].Params = set
		}
	}
	s.uploads.forget(&req)
	s.replySubmitted(r, s.submitItems(req.Token, req.Items, items))
	return nil
}

// submitItems hands what was accepted to the machine. asked has who follows it.
func (s *Service) submitItems(token string, asked []api.SubmitItem, items []job.Item) []jobspec.ID {
	s.intern.markNew(items)
	a := s.m.Step(s.now, job.Submitted{Items: items})
	ids := a.IDs
	s.follows.add(asked, ids)
	s.apply(a)
	s.tokens.add(token, ids, s.now)
	s.await(pending{submit: true, f: func(_ *reactor.Out, err error) {
		if err != nil {
			s.tokens.remove(token)
		}
	}})
	return ids
}

// replySubmitted answers a submission when it is durable, or has failed.
func (s *Service) replySubmitted(r *rpc.Request, ids []jobspec.ID) {
	s.await(pending{submit: true, f: func(out *reactor.Out, err error) {
		if err != nil {
			out.Fail(r, err)
			return
		}
		out.Reply(r, api.SubmitRep{IDs: ids})
	}})
}

func itemError(err error, i, n int) error {
	e := reactor.AsError(err)
	if n == 1 {
		return e
	}
	return wire.Errorf(e.Code, "submission %d of %d: %s", i+1, n, e.Error())
}

func (s *Service) item(it *api.SubmitItem, envs []*job.Env, known found, before []job.Item, out *job.Item) error {
	n := max(it.N, 1)
	switch {
	case it.N < 0 || n > maxElements:
		return wire.Errorf(wire.TooLarge, "an array has 1 to %d elements, not %d", maxElements, it.N)
	case it.Urgency < 0 || it.Urgency > 31:
		return wire.Errorf(wire.Invalid, "urgency is 0 to 31, not %d", it.Urgency)
	case it.Env < 0 || it.Env > len(envs):
		return wire.Errorf(wire.Invalid, "there is no environment %d in this request", it.Env)
	case len(it.Spec) > maxSpec:
		return wire.Errorf(wire.TooLarge, "the jobspec has %d bytes; the limit is %d", len(it.Spec), maxSpec)
	}
	if err := checkCC(it.CC, n); err != nil {
		return err
	}
	if it.Flags&job.FlagSystem != 0 { // in no queue
		enqueue := s.intern.enqueue
		s.intern.enqueue = func(j *jobspec.Jobspec) (*jobspec.Jobspec, error) { return j, nil }
		defer func() { s.intern.enqueue = enqueue }()
	}
	spec, err := s.intern.spec(it.Spec)
	if refused := (*wire.Error)(nil); errors.As(err, &refused) {
		return refused
	}
	if err != nil {
		return wire.Errorf(wire.Invalid, "jobspec: %v", err)
	}
	if jobspec.IsArgv(spec.spec.Job.Command) && !it.Params {
		return wire.Errorf(wire.Invalid, "jobspec: the command {{argv}} stands for an element's parameters, and the submission has none")
	}
	if err := s.open(spec.spec.Job.Queue); err != nil {
		return err
	}
	*out = job.Item{Spec: spec.spec, N: n, CC: it.CC, BCC: it.BCC, Urgency: it.Urgency, Flags: it.Flags, Watched: it.Watched,
		Followed: s.follows.byKey[it.Follow] != nil}
	out.Env = spec.env
	if it.Env > 0 {
		out.Env = envs[it.Env-1]
	}
	if len(spec.spec.Job.Dependencies) > 0 {
		if out.Depends, err = s.depends(spec.spec.Job, n, known, before); err != nil {
			return err
		}
	}
	return s.feasible(spec.spec.Job)
}

// feasible refuses what counters, or nodes, can never satisfy, the latter once all expected brokers have told of theirs.
func (s *Service) feasible(j *jobspec.Jobspec) error {
	if err := s.cfg.Counters.Feasible(&j.Request); err != nil {
		return wire.Errorf(wire.Unsatisfiable, "unsatisfiable request: %v", err)
	}
	if len(s.seen) < s.cfg.Size {
		return nil
	}
	if err := s.inv.Feasible(j.Request, j.Constraint); err != nil {
		return wire.Errorf(wire.Unsatisfiable, "unsatisfiable request: %v", err)
	}
	return nil
}

func checkCC(cc string, n int) error {
	if cc == "" {
		return nil
	}
	set, err := idset.Parse(cc)
	if err != nil {
		return wire.Errorf(wire.Invalid, "cc %q: %v", cc, err)
	}
	if set.Len() != n {
		return wire.Errorf(wire.Invalid, "cc %q has %d values for %d elements", cc, set.Len(), n)
	}
	return nil
}

// checkEnv checks NAME=value pairs, each ended by NUL.
func checkEnv(data []byte) error {
	if len(data) > 0 && data[len(data)-1] != 0 {
		return fmt.Errorf("does not end with NUL")
	}
	for len(data) > 0 {
		i := bytes.IndexByte(data, 0)
		if eq := bytes.IndexByte(data[:i], '='); eq <= 0 {
			return fmt.Errorf("%q is not NAME=value", clip(data[:i]))
		}
		data = data[i+1:]
	}
	return nil
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }

// interner keeps one copy of equal jobspecs and environments. It forgets everything when it holds too much: then equal texts are
// stored once more, nothing else.
type interner struct {
	specs map[string]*internedSpec
	envs  map[string]*job.Env
	// unstored holds the *job.Spec and *job.Env whose rows are not written yet
	unstored map[any]bool
	enqueue  func(*jobspec.Jobspec) (*jobspec.Jobspec, error) // puts a job into its queue
	bytes    int
	specID   uint64
	envID    uint64
}

type internedSpec struct {
	spec *job.Spec
	env  *job.Env // from within the jobspec; nil = none
}

// What the interner holds at most.
const (
	maxInternBytes = 16 << 20
	maxInternItems = 8192
)

func (in *interner) init(l *job.Loaded) {
	in.clear()
	if l != nil {
		in.specID, in.envID = l.SpecID, l.EnvID
	}
}

func (in *interner) clear() {
	in.specs, in.envs, in.bytes = make(map[string]*internedSpec), make(map[string]*job.Env), 0
	in.unstored = make(map[any]bool)
}

// trim makes room, between two requests: within one, nothing may be forgotten.
func (in *interner) trim() {
	if in.bytes > maxInternBytes || len(in.specs)+len(in.envs) > maxInternItems {
		in.clear()
	}
}

func (in *interner) spec(text []byte) (*internedSpec, error) {
	if e := in.specs[string(text)]; e != nil {
		return e, nil
	}
	j, err := jobspec.Parse(text)
	if err != nil {
		return nil, err
	}
	given := j
	if j, err = in.enqueue(j); err != nil {
		return nil, err
	}
	e := &internedSpec{}
	stored := slices.Clone(text)
	if len(j.Environment) > 0 {
		e.env = in.env(envBytes(j.Environment))
		bare := *j
		bare.Environment = nil
		j = &bare
	}
	if j != given {
		if stored, err = j.JSON(); err != nil {
			return nil, err
		}
	}
	in.bytes += 2 * len(text)
	in.specID++
	e.spec = &job.Spec{ID: in.specID, JSON: stored, Job: j}
	in.specs[string(text)] = e
	in.unstored[e.spec] = true
	return e, nil
}

func (in *interner) env(data []byte) *job.Env {
	if e := in.envs[string(data)]; e != nil {
		return e
	}
	in.bytes += 2 * len(data)
	in.envID++
	e := &job.Env{ID: in.envID, Data: slices.Clone(data)}
	in.envs[string(data)] = e
	in.unstored[e] = true
	return e
}

// markNew has the rows of specs and environments written that no submission before has written.
func (in *interner) markNew(items []job.Item) {
	for i := range items {
		it := &items[i]
		if it.NewSpec = in.unstored[it.Spec]; it.NewSpec {
			delete(in.unstored, it.Spec)
		}
		if it.NewEnv = it.Env != nil && in.unstored[it.Env]; it.NewEnv {
			delete(in.unstored, it.Env)
		}
	}
}

func envBytes(env map[string]string) []byte {
	names := make([]string, 0, len(env))
	for n := range env {
		names = append(names, n)
	}
	slices.Sort(names)
	var b []byte
	for _, n := range names {
		b = append(b, n...)
		b = append(b, '=')
		b = append(b, env[n]...)
		b = append(b, 0)
	}
	return b
}

// tokens remembers the latest submissions by the client's token.
type tokens struct {
	ids     map[string][]jobspec.ID
	order   []string
	horizon int64 // milliseconds: time of the latest token that was forgotten
	forgot  bool
}

const maxTokens = 65536

func (t *tokens) init() { t.ids = make(map[string][]jobspec.ID) }

func (t *tokens) find(token string) ([]jobspec.ID, bool) {
	ids, ok := t.ids[token]
	return ids, ok && token != ""
}

func (t *tokens) add(token string, ids []jobspec.ID, now time.Time) {
	if token == "" {
		return
	}
	t.ids[token] = ids
	t.order = append(t.order, token)
	if len(t.order) > maxTokens {
		for _, old := range t.order[:maxTokens/2] {
			delete(t.ids, old)
		}
		t.order = slices.Clone(t.order[maxTokens/2:])
		t.forgot, t.horizon = true, now.UnixMilli()
	}
}

func (t *tokens) remove(token string) { delete(t.ids, token) }
