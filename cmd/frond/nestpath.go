package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// Instances that are jobs are named by the path of job ids that leads to them from an instance: ƒA/ƒB is job ƒB of the instance that is
// job ƒA. The path may begin with an instance's name or, as FROND_JOB_ID_PATH, with a slash: then it leads from the outermost one.

// pathLimit is how long it may take to find an instance by its path.
const pathLimit = 20 * time.Second

// isJobPath tells whether text is a path of job ids, and splits it.
func isJobPath(text string) (ids []jobspec.ID, ok bool) {
	for part := range strings.SplitSeq(text, "/") {
		id, err := jobspec.ParseID(part)
		if err != nil {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}

// resolvePath makes a URI of a target that is a path; ok is false if it is none.
func (e *env) resolvePath(target string) (uri string, ok bool, err error) {
	first, rest, more := strings.Cut(target, "/")
	ctx, cancel := context.WithTimeout(context.Background(), pathLimit)
	defer cancel()
	switch ids, isPath := isJobPath(strings.TrimSuffix(target, "/")); {
	case isPath && first != "":
		if uri, err = e.current(); err == nil {
			uri, err = e.descend(ctx, uri, ids)
		}
	case first == "" && more:
		uri, err = e.fromRoot(ctx, rest)
	case more: // of an instance that has a name
		ids, isPath := isJobPath(strings.TrimSuffix(rest, "/"))
		if !isPath {
			return "", false, nil
		}
		if uri, err = e.resolve(first); err == nil {
			uri, err = e.descend(ctx, uri, ids)
		}
	default:
		return "", false, nil
	}
	return uri, true, err
}

// fromRoot follows a path from the outermost instance.
func (e *env) fromRoot(ctx context.Context, rest string) (string, error) {
	uri, err := e.current()
	for err == nil {
		var up string
		if up, err = e.parentOf(ctx, uri); err != nil || up == "" {
			break
		}
		uri = up
	}
	if err != nil || rest == "" {
		return uri, err
	}
	ids, ok := isJobPath(strings.TrimSuffix(rest, "/"))
	if !ok {
		return "", fmt.Errorf("/%s is no path of job ids", rest)
	}
	return e.descend(ctx, uri, ids)
}

// parentOf is the URI of the instance around the one at uri; "" if there is none.
func (e *env) parentOf(ctx context.Context, uri string) (string, error) {
	c, err := e.dial(ctx, uri)
	if err != nil {
		return "", err
	}
	defer c.Close()
	rep, err := call(ctx, c, api.AttrGet, wire.Any, api.AttrReq{Name: "parent-uri"})
	if isNotFound(err) {
		return "", nil
	}
	if u, perr := url.Parse(uri); err == nil && perr == nil && u.Scheme == "ssh" { // it is a socket of that host
		return "ssh://" + u.Host + strings.TrimPrefix(rep.Value, "local://"), nil
	}
	return rep.Value, err
}

// descend follows job ids from the instance at uri.
func (e *env) descend(ctx context.Context, uri string, ids []jobspec.ID) (string, error) {
	for _, id := range ids {
		c, err := e.dial(ctx, uri)
		if err != nil {
			return "", err
		}
		uri, err = e.childURI(ctx, c, uri, id)
		c.Close()
		if err != nil {
			return "", err
		}
	}
	return uri, nil
}

// childURI is where the instance is, or is kept, that is job id of the instance at uri, which c is connected to.
func (e *env) childURI(ctx context.Context, c *client.Client, uri string, id jobspec.ID) (string, error) {
	job, err := oneJob(ctx, c, id)
	if err != nil {
		return "", err
	}
	at := memoURI(job)
	switch state := jobspec.State(job.State); {
	case at != "" && state&jobspec.StatesRunning != 0:
		return localized(at), nil
	case at == "":
		if err := e.checkInstance(ctx, c, id); err != nil {
			return "", err
		}
		if state&jobspec.StatesPending != 0 {
			return "", notYet{fmt.Errorf("job %s has not started yet", e.idText(id))}
		}
		if state == jobspec.StateInactive {
			return "", fmt.Errorf("job %s has ended before its instance came up", e.idText(id))
		}
		return "", notYet{fmt.Errorf("the instance of job %s is not up yet", e.idText(id))}
	}
	return e.historyURI(ctx, c, uri, job)
}

// notYet is an error that time may heal.
type notYet struct{ error }

// memoURI is what an instance has said of where it is.
func memoURI(job *api.JobInfo) string {
	var memo struct {
		URI string `json:"uri"`
	}
	if job.Memo == "" || json.Unmarshal([]byte(job.Memo), &memo) != nil {
		return ""
	}
	return memo.URI
}

// localized is a URI by which an instance is reached from this host: its socket, if it is here.
func localized(uri string) string {
	u, err := url.Parse(uri)
	host, herr := os.Hostname()
	if err == nil && herr == nil && u.Scheme == "ssh" && u.Host == host {
		return "local://" + u.Path
	}
	return uri
}

// checkInstance says so if a job is no instance.
func (e *env) checkInstance(ctx context.Context, c *client.Client, id jobspec.ID) error {
	rep, err := call(ctx, c, api.Info, wire.Any, api.InfoReq{ID: id, Key: "jobspec"})
	if err != nil {
		return err
	}
	js, err := jobspec.Parse([]byte(rep.Value))
	if err == nil && js.Instance == nil {
		err = fmt.Errorf("job %s is no instance (frond batch and frond alloc start instances)", e.idText(id))
	}
	return err
}

// historyURI is that of an instance that has ended, as far as this host has what it left.
func (e *env) historyURI(ctx context.Context, c *client.Client, uri string, job *api.JobInfo) (string, error) {
	rep, err := call(ctx, c, api.AttrGet, wire.Any, api.AttrReq{Name: "statedir"})
	if err != nil {
		return "", err
	}
	dir := historyDir(rep.Value, job.ID.String())
	if job.Attempt > 1 {
		dir += fmt.Sprintf(".%d", job.Attempt)
	}
	_, err = os.Stat(filepath.Join(dir, "store.db"))
	host := ""
	if u, perr := url.Parse(uri); perr == nil && u.Scheme == "ssh" {
		host = " on host " + u.Host
	}
	switch {
	case err == nil && host == "":
		return historyScheme + "://" + dir, nil
	case host != "":
		return "", fmt.Errorf("job %s has ended; what ran in it is seen%s only", e.idText(job.ID), host)
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("job %s has ended, and what ran in it was not kept (--keep-history)", e.idText(job.ID))
	}
	return "", err
}
