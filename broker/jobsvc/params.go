package jobsvc

import (
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// A chunk of parameters in the store ends with the element with which it has so many lists or bytes. It is what the job machine reads
// at once.
const (
	chunkLists = 1024
	chunkBytes = 64 << 10
)

// uploads are the sets of parameters whose submission has not come yet, by the token of the item. They are in the store; what is here may
// be forgotten.
type uploads struct {
	last  uint64 // set
	known map[string]*upload
}

// upload is one set: n elements have theirs durably, those of busy more are being written.
type upload struct {
	set     uint64
	n, busy int
}

// maxUploads is how many of them are remembered.
const maxUploads = 4096

func (u *uploads) init(l *job.Loaded) {
	u.known = make(map[string]*upload)
	if l != nil {
		u.last = l.ParamID
	}
}

// add remembers an upload, and forgets others if there are too many.
func (u *uploads) add(token string, up *upload) *upload {
	if len(u.known) >= maxUploads {
		for t, other := range u.known {
			if other.busy == 0 {
				delete(u.known, t)
			}
		}
	}
	u.known[token] = up
	return up
}

// take returns the set of an item of n elements, which must be complete.
func (u *uploads) take(token string, n int) (uint64, error) {
	up := u.known[token]
	switch {
	case up == nil || up.n == 0:
		return 0, wire.Errorf(wire.Invalid, "its parameters were not uploaded")
	case up.n != n:
		return 0, wire.Errorf(wire.Invalid, "parameters of %d elements were uploaded, and it has %d", up.n, n)
	}
	return up.set, nil
}

// uploadToken is the one under which parameters of an item were uploaded.
func uploadToken(req *api.SubmitReq, i int) string {
	if req.Uploads != "" {
		return itemToken(req.Uploads, i)
	}
	return itemToken(req.Token, i)
}

// forget forgets what was submitted.
func (u *uploads) forget(req *api.SubmitReq) {
	for i := 0; i < len(req.Items) && len(u.known) > 0; i++ {
		delete(u.known, uploadToken(req, i))
	}
}

// lookUp finds the uploads of tokens, those that memory does not know in the store, and calls then.
func (s *Service) lookUp(tokens []string, then func(error)) {
	var ask []string
	for _, t := range tokens {
		if s.uploads.known[t] == nil {
			ask = append(ask, t)
		}
	}
	if len(ask) == 0 {
		then(nil)
		return
	}
	s.query(func(rd job.Reader) (any, error) {
		found := make(map[string]upload)
		for _, t := range ask {
			set, n, ok, err := rd.Upload(t)
			if err != nil {
				return nil, err
			}
			if ok {
				found[t] = upload{set: set, n: n}
			}
		}
		return found, nil
	}, func(v any, err error) {
		if err == nil {
			for t, up := range v.(map[string]upload) {
				if s.uploads.known[t] == nil { // else it came meanwhile
					s.uploads.add(t, &up)
				}
			}
		}
		then(err)
	})
}

func (s *Service) onParams(r *rpc.Request, req api.ParamsReq) error {
	switch {
	case s.stopping:
		return wire.Errorf(wire.Unavailable, "the instance is shutting down and takes no more jobs")
	case req.Token == "":
		return wire.Errorf(wire.Invalid, "parameters need the token of their submission")
	case len(req.Token) > maxToken:
		return wire.Errorf(wire.TooLarge, "the token has %d bytes; the limit is %d", len(req.Token), maxToken)
	case req.Item < 0 || req.First < 0 || req.First+len(req.Params) > maxElements:
		return wire.Errorf(wire.TooLarge, "an array has 1 to %d elements", maxElements)
	case len(req.Params) == 0:
		return wire.Errorf(wire.Invalid, "no parameters")
	}
	for i, list := range req.Params {
		if err := checkParams(list); err != nil {
			return wire.Errorf(err.Code, "parameters of element %d: %s", req.First+i, err.Text)
		}
	}
	token := itemToken(req.Token, req.Item)
	s.lookUp([]string{token}, func(err error) {
		if err == nil {
			err = s.upload(r, token, &req)
		}
		if err != nil {
			s.out.Fail(r, err)
		}
	})
	return nil
}

func checkParams(list []string) *wire.Error {
	for k, p := range list {
		if strings.IndexByte(p, 0) >= 0 {
			return wire.Errorf(wire.Invalid, "parameter %d holds a NUL byte", k)
		}
	}
	if n := listSize(list); n > api.MaxParams {
		return wire.Errorf(wire.TooLarge, "they have %d bytes; the limit is %d", n, api.MaxParams)
	}
	return nil
}

func listSize(list []string) int {
	n := len(list)
	for _, p := range list {
		n += len(p)
	}
	return n
}

// upload takes the next part of a set. The answer waits until it is durable.
func (s *Service) upload(r *rpc.Request, token string, req *api.ParamsReq) error {
	up := s.uploads.known[token]
	end := req.First + len(req.Params)
	var begun *job.UploadRow
	switch {
	case up != nil && end <= up.n:
		s.out.Reply(r, api.ParamsRep{N: up.n})
		return nil
	case up != nil && up.busy > 0:
		return wire.Errorf(wire.Unavailable, "parameters of that submission are being written; send one part after the other")
	case up == nil && req.First == 0:
		s.uploads.last++
		up = s.uploads.add(token, &upload{set: s.uploads.last})
		begun = &job.UploadRow{Set: up.set, Token: token, Time: float64(s.now.UnixMilli()) / 1e3}
	case up == nil || req.First != up.n:
		at := 0
		if up != nil {
			at = up.n
		}
		return wire.Errorf(wire.Invalid, "parameters come in order: those of element %d are next, not of %d", at, req.First)
	}
	up.busy = len(req.Params)
	s.step(job.Uploaded{New: begun, Chunks: chunks(up.set, req.First, req.Params)})
	s.await(pending{submit: true, f: func(out *reactor.Out, err error) {
		if err != nil {
			delete(s.uploads.known, token) // the store knows how far it got
			out.Fail(r, err)
			return
		}
		up.n, up.busy = up.n+up.busy, 0
		out.Reply(r, api.ParamsRep{N: up.n})
	}})
	return nil
}

// chunks cuts lists into rows.
func chunks(set uint64, first int, lists [][]string) (rows []job.ParamsRow) {
	for len(lists) > 0 {
		n, size := 0, 0
		for n < len(lists) && n < chunkLists && size < chunkBytes {
			size += listSize(lists[n])
			n++
		}
		rows = append(rows, job.ParamsRow{Set: set, First: first, N: n, Data: job.EncodeParams(lists[:n])})
		first, lists = first+n, lists[n:]
	}
	return rows
}

// withParams accepts a submission once it is known what was uploaded for it.
func (s *Service) withParams(r *rpc.Request, req api.SubmitReq) error {
	var tokens []string
	for i := range req.Items {
		if req.Items[i].Params {
			tokens = append(tokens, uploadToken(&req, i))
		}
	}
	if len(tokens) == 0 {
		return s.accept(r, req, nil)
	}
	if req.Token == "" {
		return wire.Errorf(wire.Invalid, "parameters need the token under which they were uploaded")
	}
	s.lookUp(tokens, func(err error) {
		// The same submission may have come twice while the store was asked.
		if ids, known := s.tokens.find(req.Token); err == nil && known && req.Once == "" {
			s.replySubmitted(r, ids)
			return
		}
		if err == nil {
			err = s.accept(r, req, nil)
		}
		if err != nil {
			s.out.Fail(r, err)
		}
	})
	return nil
}

// loadParams reads a chunk for the machine. In a branch it may have come with a grant that is not durable yet.
func (s *Service) loadParams(w job.ParamsWanted) {
	if !s.cfg.Branch {
		s.readParams(w)
		return
	}
	s.whenDurable(func(*reactor.Out, error) { s.readParams(w) })
}

func (s *Service) readParams(w job.ParamsWanted) {
	s.query(func(rd job.Reader) (any, error) { return job.ReadParams(rd, w.Set, w.Index) }, func(v any, err error) {
		ev := job.ParamsLoaded{Array: w.Array, Index: w.Index}
		if err != nil {
			ev.Err = err.Error()
			s.out.Log("error", "parameters cannot be read", "job", w.Array, "index", w.Index, "err", err)
		} else {
			ev.Chunk = v.(*job.ParamChunk)
		}
		s.step(ev)
	})
}
