package main

import (
	"fmt"
	"slices"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// parseInclude reads HOSTS or RANKS and tells of a job whether it has some of them; nil without any.
func parseInclude(text string) (func(*api.JobInfo) bool, error) {
	if text == "" {
		return nil, nil
	}
	if ranks, err := idset.Parse(text); err == nil {
		return func(j *api.JobInfo) bool {
			has, err := idset.Parse(j.Ranks)
			return err == nil && !has.Intersect(ranks).Empty()
		}, nil
	}
	hosts, err := hostlist.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--include: %q is neither a set of ranks nor a list of hosts", text)
	}
	return func(j *api.JobInfo) bool {
		has, err := hostlist.Parse(j.Nodelist)
		return err == nil && slices.ContainsFunc(has, func(h string) bool { return slices.Contains(hosts, h) })
	}, nil
}
