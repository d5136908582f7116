package jobsvc

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/job"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

func (s *Service) onInfo(r *rpc.Request, req api.InfoReq) error {
	here := func() { s.orFail(r, s.infoHere(r, req)) }
	if req.Key == "jobspec" || req.Key == "environment" {
		here()
		return nil
	}
	s.where(req.ID, here, func(to int) { s.passOne(r, to, api.Info.Topic, req, func(error) { here() }) })
	return nil
}

// infoHere answers with what is known here.
func (s *Service) infoHere(r *rpc.Request, req api.InfoReq) error {
	arr, n, idx, ok := s.m.Lookup(req.ID)
	if ok && n > 1 && idx < 0 && (req.Key == "jobspec" || req.Key == "environment") {
		idx = 0 // all elements share it
	}
	if ok {
		row, spec, env, found := s.m.Row(arr)
		if found && (req.Key == "environment" || req.Key == "jobspec" && row.Params == 0) {
			text, err := submission(req, row, spec.JSON, envData(env), nil)
			return s.info(r, text, err)
		}
		if v, active := s.m.View(arr, idx); active && req.Key != "jobspec" {
			text, err := s.activeInfo(req.Key, &v)
			return s.info(r, text, err)
		}
	}
	s.query(func(rd job.Reader) (any, error) { return storedInfo(rd, req) }, func(v any, err error) {
		text, _ := v.(string)
		if err := s.info(r, text, err); err != nil {
			s.out.Fail(r, err)
		}
	})
	return nil
}

func (s *Service) info(r *rpc.Request, text string, err error) error {
	if err == nil {
		s.out.Reply(r, api.InfoRep{Value: text})
	}
	return err
}

func envData(e *job.Env) []byte {
	if e == nil {
		return nil
	}
	return e.Data
}

func (s *Service) activeInfo(key string, v *job.View) (string, error) {
	switch key {
	case "eventlog":
		return eventlogText(v.Row, v.Log)
	case "taskmap":
		if v.Res == nil {
			return "", wire.Errorf(wire.NotFound, "%v has no resources yet", v.ID)
		}
		info := api.JobInfo{}
		s.placed(&info, v.Res)
		return taskmapText(v.Spec.Job, v.Res, info.Nodelist)
	case "R":
		if v.Res == nil {
			return "", wire.Errorf(wire.NotFound, "%v has no resources yet", v.ID)
		}
		return string(resource.EncodeAlloc(v.Res, s.inv.Node, v.Fold.TRun, s.m.Expiration(v), v.Spec.Job.Request.TotalSlots())), nil
	}
	return "", badKey(key)
}

func badKey(key string) error {
	return wire.Errorf(wire.Invalid, "no such key %q; there are jobspec, R, eventlog, environment and taskmap", key)
}

func storedInfo(rd job.Reader, req api.InfoReq) (any, error) {
	if req.Key == "jobspec" || req.Key == "environment" {
		return storedSubmission(rd, req)
	}
	rd, row, el, err := findKept(rd, req.ID)
	if err != nil {
		return nil, err
	}
	switch req.Key {
	case "eventlog":
		return eventlogText(&row, el.Events)
	case "R":
		return storedR(&el)
	case "taskmap":
		return storedTaskmap(rd, &row, &el)
	}
	return nil, badKey(req.Key)
}

func storedSubmission(rd job.Reader, req api.InfoReq) (any, error) {
	row, ok, err := rd.Find(req.ID)
	if err == nil && !ok {
		err = wire.Errorf(wire.NotFound, "%s", unknownJob(req.ID))
	}
	if err != nil {
		return nil, err
	}
	spec, err := rd.Spec(row.Spec)
	if err != nil {
		return nil, err
	}
	var env []byte
	if row.Env != 0 {
		if env, err = rd.Env(row.Env); err != nil {
			return nil, err
		}
	}
	var params []string
	if index := int(req.ID) - int(row.ID) - 1; req.Key == "jobspec" && row.Params != 0 && (index >= 0 || row.N == 1) {
		index = row.Shown(max(index, 0))
		chunk, err := job.ReadParams(rd, row.Params, index)
		if err != nil {
			return nil, err
		}
		params, _ = chunk.Of(index)
	}
	return submission(req, &row, spec, env, params)
}

// submission is the jobspec with its environment put back in and its command with the element's parameters, or the environment alone.
func submission(req api.InfoReq, row *job.ArrayRow, spec, env []byte, params []string) (string, error) {
	vars := make(map[string]string)
	for _, pair := range strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			vars[name] = value
		}
	}
	if req.Key == "environment" {
		b, err := json.Marshal(vars)
		return string(b), err
	}
	var doc map[string]any
	if err := json.Unmarshal(spec, &doc); err != nil {
		return "", wire.Errorf(wire.Internal, "stored jobspec: %v", err)
	}
	if attrs, ok := doc["attributes"].(map[string]any); ok && len(vars) > 0 {
		if sys, ok := attrs["system"].(map[string]any); ok {
			sys["environment"] = vars
		}
	}
	if cur, changed := current(row); changed && !req.Base {
		for path, v := range cur.Updates {
			setPath(doc, strings.Split(path, "."), v)
		}
	}
	if tasks, ok := doc["tasks"].([]any); ok && params != nil {
		for _, t := range tasks {
			if task, ok := t.(map[string]any); ok {
				task["command"] = withParams(task["command"], params)
			}
		}
	}
	b, err := json.Marshal(doc)
	return string(b), err
}

// withParams is a jobspec's command for an element with these parameters.
func withParams(command any, params []string) any {
	list, ok := command.([]any)
	if !ok {
		return command
	}
	argv := make([]string, len(list))
	for i := range list {
		if argv[i], ok = list[i].(string); !ok {
			return command
		}
	}
	return jobspec.WithParams(argv, params)
}

func eventlogText(row *job.ArrayRow, log []byte) (string, error) {
	events, err := job.Eventlog(row, log)
	if err != nil {
		return "", wire.Errorf(wire.Internal, "job %v: %v", row.ID, err)
	}
	var b strings.Builder
	for _, e := range events {
		b.WriteString(`{"timestamp":` + strconv.FormatFloat(e.Time, 'f', 6, 64) + `,"name":` + strconv.Quote(e.Name))
		if e.Context != "" {
			b.WriteString(`,"context":` + e.Context)
		}
		b.WriteString("}\n")
	}
	return b.String(), nil
}

// storedR rebuilds R from what the log and the row keep of the allocation.
func storedR(el *job.ElementRow) (any, error) {
	parts, err := job.LastAlloc(el.Events)
	if err != nil || len(parts) == 0 {
		return nil, wire.Errorf(wire.NotFound, "%v never had resources", el.ID)
	}
	names, err := hostlist.Parse(el.Nodelist)
	if err != nil || len(names) != len(parts) {
		return nil, wire.Errorf(wire.Internal, "job %v: its nodes %q do not fit its allocation", el.ID, el.Nodelist)
	}
	res := &resource.Alloc{}
	nodes := make(map[int]*resource.Node, len(parts))
	for i, p := range parts {
		cores, err1 := resource.ParseMask(p.Cores)
		gpus, parts, err2 := resource.ParseGPUs(p.GPUs)
		if err1 != nil || err2 != nil {
			return nil, wire.Errorf(wire.Internal, "job %v: damaged allocation", el.ID)
		}
		res.Nodes = append(res.Nodes, resource.NodeAlloc{Node: p.Node, Cores: cores, GPUs: gpus, GPUParts: parts})
		nodes[p.Node] = &resource.Node{Index: p.Node, Name: names[i]}
	}
	return string(resource.EncodeAlloc(res, func(i int) *resource.Node { return nodes[i] }, el.Start, 0, 0)), nil
}

func nodelist(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return hostlist.Encode(names)
}

func countNodes(ranks string) int {
	set, err := idset.Parse(ranks)
	if err != nil {
		return 0
	}
	return set.Len()
}

// ccValues are an array's values of --cc by element; shown nil = elements are shown with their own indexes (ArrayRow.Indexes).
type ccValues struct{ values, shown *idset.Index }

// cc is an element's value of --cc. The sets are read once for all elements of an array: they may have as many ranges as it has elements.
func (c *converter) cc(row *job.ArrayRow, idx int) string {
	if row.CC == "" {
		return ""
	}
	v := c.ccs[row.ID]
	if v == nil {
		v = &ccValues{}
		if set, err := idset.Parse(row.CC); err == nil {
			v.values = set.Index()
		}
		if set, err := idset.Parse(row.Indexes); err == nil && !set.Empty() {
			v.shown = set.Index()
		}
		c.ccs[row.ID] = v
	}
	if v.values == nil {
		return ""
	}
	if v.shown != nil {
		idx, _ = v.shown.Nth(idx)
	}
	value, _ := v.values.Nth(idx)
	return strconv.Itoa(value)
}

func (s *Service) onLookup(r *rpc.Request, req api.LookupReq) error {
	s.query(func(rd job.Reader) (any, error) {
		found := make([]api.Found, len(req.IDs))
		for i, id := range req.IDs {
			row, ok, err := rd.Find(id)
			if err != nil {
				return nil, err
			}
			if ok {
				found[i] = api.Found{ID: row.ID, N: row.N}
			}
		}
		return found, nil
	}, func(v any, err error) {
		if err != nil {
			s.out.Fail(r, err)
			return
		}
		s.out.Reply(r, api.LookupRep{Found: v.([]api.Found)})
	})
	return nil
}

// setPath sets a value in nested objects, which are there.
func setPath(doc map[string]any, path []string, v any) {
	for _, k := range path[:len(path)-1] {
		next, ok := doc[k].(map[string]any)
		if !ok {
			return
		}
		doc = next
	}
	doc[path[len(path)-1]] = v
}
