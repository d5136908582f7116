package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

// byPath are the verbs whose job ids may be paths: they run once for each instance named. With a slash at the end a path means all jobs
// of that instance: those that are active, or also those that have ended, in instances below it, too.
var byPath = map[string]wholeInstance{
	"cancel": {states: int(jobspec.StatesActive)}, "kill": {states: int(jobspec.StatesRunning)}, "wait": {}, "logs": {deep: true}, "explain": {}, "report": {},
	"attach": {}, "eventlog": {}, "raise": {}, "status": {}, "timeleft": {}, "retry": {}, "watch": {}, "jobs": {},
	"info": {first: true}, "memo": {first: true}, "taskmap": {first: true}, "urgency": {first: true}, "wait-event": {first: true}, "update": {first: true},
}

// wholeInstance is what a path with a slash at its end means.
type wholeInstance struct {
	states int  // 0 = any
	deep   bool // jobs of instances below it, too
	first  bool // of the verb: only its first argument is a job id
}

// takePaths has the commands below root take paths.
func (e *env) takePaths(root *cobra.Command) {
	for _, c := range root.Commands() {
		how, ok := byPath[c.Name()]
		if run := c.RunE; ok && run != nil && (c.Parent() == root || c.Parent().Name() == "job") {
			args := c.Args
			c.Args = nil
			c.RunE = func(cmd *cobra.Command, given []string) error {
				return e.eachInstance(cmd, given, how, func(part []string) error {
					if args != nil {
						if err := args(cmd, part); err != nil {
							return err
						}
					}
					return run(cmd, part)
				})
			}
		}
		if c.Name() == "job" {
			e.takePaths(c)
		}
	}
}

// eachInstance runs f with the arguments that concern each instance, and returns the worst of its errors.
func (e *env) eachInstance(cmd *cobra.Command, args []string, how wholeInstance, f func([]string) error) error {
	ids := args
	if how.first {
		ids = args[:min(1, len(args))]
	}
	if !slices.ContainsFunc(ids, hasPath) {
		return f(args)
	}
	home := e.target
	defer func() { e.target = home }()
	uri, err := e.uri()
	if err != nil {
		return err
	}
	groups, err := e.groupByInstance(cmd.Context(), uri, ids, how)
	if err != nil {
		return err
	}
	for i := range groups {
		groups[i].args = append(groups[i].args, args[len(ids):]...)
	}
	up := e.up
	e.up = 0
	defer func() { e.up = up }()
	var worst error
	for _, g := range groups {
		e.target = g.uri
		err := f(g.args)
		if worst == nil || exitCode(err) > exitCode(worst) {
			worst = err
		}
		if err != nil && worst != err {
			e.report(cmd, err)
		}
	}
	return worst
}

// hasPath tells whether an argument is a path of job ids: its last part may name elements of an array.
func hasPath(arg string) bool {
	if !strings.Contains(arg, "/") || strings.HasPrefix(arg, "/") && len(arg) == 1 {
		return false
	}
	head := arg
	if slash := strings.LastIndexByte(arg, '/'); strings.Contains(arg[slash:], ":") {
		head, _, _ = strings.Cut(arg, ":")
	}
	_, ok := isJobPath(strings.Trim(head, "/"))
	return ok
}

// group is arguments of one instance.
type group struct {
	uri  string
	args []string
}

func (e *env) groupByInstance(ctx context.Context, uri string, args []string, how wholeInstance) ([]group, error) {
	ctx, cancel := context.WithTimeout(ctx, pathLimit)
	defer cancel()
	var groups []group
	add := func(at string, ids ...string) {
		for i := range groups {
			if groups[i].uri == at {
				groups[i].args = append(groups[i].args, ids...)
				return
			}
		}
		groups = append(groups, group{at, ids})
	}
	for _, arg := range args {
		slash := strings.LastIndexByte(arg, '/')
		if !hasPath(arg) {
			add(uri, arg)
			continue
		}
		at := uri
		if strings.Trim(arg[:slash], "/") != "" {
			var err error
			if at, err = e.instanceAt(ctx, uri, arg[:slash]); err != nil {
				return nil, fmt.Errorf("%s: %w", arg, err)
			}
		}
		if last := arg[slash+1:]; last != "" {
			add(at, last)
		} else if err := e.addAll(ctx, at, how, add); err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
	}
	return groups, nil
}

func (e *env) instanceAt(ctx context.Context, uri, path string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return e.fromRoot(ctx, path[1:])
	}
	ids, _ := isJobPath(path)
	return e.descend(ctx, uri, ids)
}

// maxWhole bounds the jobs that a path with a slash at its end may stand for.
const maxWhole = 100_000

// addAll adds the jobs of the instance at uri.
func (e *env) addAll(ctx context.Context, uri string, how wholeInstance, add func(at string, ids ...string)) error {
	c, err := e.dial(ctx, uri)
	if err != nil {
		return err
	}
	defer c.Close()
	var ids []string
	var below []jobspec.ID
	l := &jobListing{ctx: ctx, c: c, req: api.ListReq{States: how.states}}
	defer l.close()
	err = eachJob(l.next, func(j *api.JobInfo) error {
		if ids = append(ids, e.idText(j.ID)); len(ids) > maxWhole {
			return fmt.Errorf("it has more than %d jobs", maxWhole)
		}
		if how.deep && memoURI(j) != "" {
			below = append(below, j.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(ids) // listings begin with the latest
	if len(ids) > 0 {
		add(uri, ids...)
	}
	for _, id := range below {
		if at, err := e.childURI(ctx, c, uri, id); err == nil { // else there is nothing to be seen of it
			if err := e.addAll(ctx, at, how, add); err != nil {
				return err
			}
		}
	}
	return nil
}

// children are the jobs of an instance that are instances and can be looked into, with their URIs.
func (e *env) children(ctx context.Context, c *client.Client, uri string, jobs []*api.JobInfo) ([]nested, error) {
	var list []nested
	for _, j := range jobs {
		if memoURI(j) == "" {
			continue
		}
		at, err := e.childURI(ctx, c, uri, j.ID)
		var told *wire.Error
		if err != nil && errors.As(err, &told) && told.Code == wire.Lost {
			return nil, err
		}
		if err == nil {
			list = append(list, nested{job: j, uri: at})
		}
	}
	return list, nil
}

// nested is a job that is an instance.
type nested struct {
	job *api.JobInfo
	uri string
}
