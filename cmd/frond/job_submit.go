package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

type jobSubmitOptions struct {
	urgency string
	flags   string
	json    bool
}

func newJobSubmitCmd(e *env) *cobra.Command {
	o := &jobSubmitOptions{}
	cmd := &cobra.Command{
		Use:   "submit [OPTIONS] [JOBSPEC|-]",
		Short: "Submit a jobspec",
		Long: `Submit a jobspec (JSON, version 1) from a file or from standard input, and print the job's id.
The environment is the one in the jobspec. The limit is 1 MiB.

Exit codes: 0, or 1 when the jobspec is refused.`,
		Example: "  frond run --dry-run -n4 hostname > spec.json\n  frond job submit spec.json",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	cmd.Flags().StringVarP(&o.urgency, "urgency", "u", "", "0 to 31, hold, default or expedite")
	cmd.Flags().StringVarP(&o.flags, "flags", "f", "", "submit flags: debug, waitable, novalidate")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the id as JSON: {\"ids\": […]}")
	return cmd
}

func (o *jobSubmitOptions) run(ctx context.Context, e *env, args []string) error {
	item, err := o.item(e, args)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	rep, err := client.Call(ctx, c, api.Submit, api.SubmitReq{Token: rand.Text(), Items: []api.SubmitItem{item}})
	if err != nil {
		return err
	}
	if len(rep.IDs) != 1 {
		return fmt.Errorf("the instance answered %d ids for one job", len(rep.IDs))
	}
	if o.json {
		return writeJSON(e.stdout, map[string]any{"ids": []uint64{uint64(rep.IDs[0])}})
	}
	_, err = fmt.Fprintln(e.stdout, e.idText(rep.IDs[0]))
	return err
}

// item reads and checks the jobspec.
func (o *jobSubmitOptions) item(e *env, args []string) (api.SubmitItem, error) {
	s := submitOptions{urgency: o.urgency, flags: o.flags}
	var item api.SubmitItem
	var err error
	if item.Urgency, err = s.urgencyValue(); err != nil {
		return item, err
	}
	if item.Flags, err = parseSubmitFlags(o.flags); err != nil {
		return item, err
	}
	name := "standard input"
	in := e.stdin
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return item, fmt.Errorf("read jobspec: %w", err)
		}
		defer f.Close()
		name, in = args[0], f
	}
	item.Spec, err = readLimited(in, jobspec.MaxBytes)
	if err != nil {
		return item, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := jobspec.Parse(item.Spec); err != nil {
		return item, fmt.Errorf("%s: %w", name, err)
	}
	return item, nil
}

// readLimited reads all of in, at most limit bytes.
func readLimited(in io.Reader, limit int) ([]byte, error) {
	if in == nil {
		return nil, errors.New("there is nothing to read")
	}
	b, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read jobspec: %w", err)
	case len(b) > limit:
		return nil, fmt.Errorf("the jobspec is larger than the limit of %d bytes", limit)
	case len(b) == 0:
		return nil, errors.New("the jobspec is empty")
	}
	return b, nil
}
