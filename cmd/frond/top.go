package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type topOptions struct {
	queue string
	once  bool
}

func newTopCmd(e *env) *cobra.Command {
	o := &topOptions{}
	cmd := &cobra.Command{
		Use:   "top [OPTIONS] [TARGET]",
		Short: "Show an instance and its jobs on a terminal, as they change",
		Long: `Show an instance on the whole terminal: its nodes, cores and gpus, the numbers of its jobs, how many of them end in a second,
and the jobs. TARGET is what 'frond uri' takes, as the id of a job that is an instance.

Keys: up and down (k, j) choose a job, enter (l) goes into one that is an instance, backspace (h) back out, q ends.

Exit codes: 0; 1 when there is no terminal or no such instance.`,
		Example: "  frond top\n  frond top f2GkxPgu/f3AbQ",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	cmd.Flags().StringVarP(&o.queue, "queue", "q", "", "only jobs of the queue `NAME`")
	cmd.Flags().BoolVar(&o.once, "once", false, "print one picture and end")
	return cmd
}

func (o *topOptions) run(ctx context.Context, e *env, args []string) error {
	uri, err := e.targetURI(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src := &topClient{ctx: ctx, e: e, queue: o.queue}
	defer src.close()
	m := newTopModel(src, uri, e.asciiIDs())
	if o.once {
		data, err := src.look(uri)
		if err != nil {
			return err
		}
		m.width, m.height = 100, len(data.jobs)+topHead+1
		next, _ := m.Update(topLooked{data: data})
		_, err = fmt.Fprint(e.stdout, next.View())
		return err
	}
	if !e.isTerminal(e.stdin) || !e.isTerminal(e.stdout) {
		return errors.New("it needs a terminal; --once prints one picture anywhere")
	}
	if _, err := src.look(uri); err != nil {
		return err
	}
	_, err = tea.NewProgram(m, tea.WithAltScreen(), tea.WithContext(ctx)).Run()
	return err
}

// topSource is where the screen has its data from.
type topSource interface {
	// look asks the instance at uri.
	look(uri string) (*topData, error)
	// into is the URI of the instance that is a job of the one at uri.
	into(uri string, id jobspec.ID) (string, error)
}

// topData is an instance at one moment.
type topData struct {
	at      time.Time
	name    string
	level   string
	version string
	start   float64
	view    *instanceView
	jobs    []*api.JobInfo
}

// topClient asks real instances, and keeps a connection to the one asked last.
type topClient struct {
	ctx   context.Context
	e     *env
	queue string
	mu    sync.Mutex // of uri and c: the program runs commands beside one another
	uri   string
	c     *client.Client
}

// topLimit is how long an instance may take to answer.
const topLimit = 5 * time.Second

// maxTop bounds the jobs on the screen.
const maxTop = 500

func (t *topClient) close() {
	if t.c != nil {
		t.c.Close()
		t.c = nil
	}
}

func (t *topClient) connect(ctx context.Context, uri string) (err error) {
	if t.c != nil && t.uri == uri {
		return nil
	}
	t.close()
	t.uri = uri
	t.c, err = t.e.dial(ctx, uri)
	return err
}

func (t *topClient) look(uri string) (*topData, error) {
	ctx, cancel := context.WithTimeout(t.ctx, topLimit)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	d, err := t.ask(ctx, uri)
	if err != nil {
		t.close()
	}
	return d, err
}

func (t *topClient) ask(ctx context.Context, uri string) (*topData, error) {
	if err := t.connect(ctx, uri); err != nil {
		return nil, err
	}
	attrs, err := call(ctx, t.c, api.AttrList, wire.Any, api.Empty{})
	if err != nil {
		return nil, err
	}
	d := &topData{at: time.Now(), name: filepath.Base(attrs.Attrs["rundir"]), level: attrs.Attrs["instance-level"], version: attrs.Attrs["version"]}
	d.start, _ = strconv.ParseFloat(attrs.Attrs["broker.starttime"], 64)
	if d.view, err = viewInstance(ctx, t.c); err != nil {
		return nil, err
	}
	l := &jobListing{ctx: ctx, c: t.c, req: api.ListReq{States: int(jobspec.StatesActive), Max: maxTop, Collapse: true}}
	defer l.close()
	err = eachJob(l.next, func(j *api.JobInfo) error {
		if t.queue == "" || j.Queue == t.queue {
			d.jobs = append(d.jobs, j)
		}
		return nil
	})
	return d, err
}

func (t *topClient) into(uri string, id jobspec.ID) (string, error) {
	ctx, cancel := context.WithTimeout(t.ctx, topLimit)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.connect(ctx, uri); err != nil {
		return "", err
	}
	return t.e.childURI(ctx, t.c, uri, id)
}
