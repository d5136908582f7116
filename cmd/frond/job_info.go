package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// infoKeys are what the instance keeps of a job.
var infoKeys = []string{"jobspec", "R", "eventlog", "environment"}

func newJobInfoCmd(e *env) *cobra.Command {
	original, base := false, false
	cmd := &cobra.Command{
		Use:   "info [OPTIONS] JOBID KEY",
		Short: "Print what the instance keeps of a job: " + strings.Join(infoKeys, ", "),
		Long: `Print a job's jobspec, R (its resources), eventlog (one JSON object a line) or environment, as JSON.

Exit codes: 0, or 1 when the job or the key is unknown.`,
		Example:           "  frond job info f2Gk jobspec",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return infoKeys, 0 },
		RunE: func(cmd *cobra.Command, args []string) error {
			return jobInfo(cmd.Context(), e, args[0], args[1], original || base)
		},
	}
	cmd.Flags().BoolVarP(&original, "original", "o", false, "the jobspec as it was submitted")
	cmd.Flags().BoolVarP(&base, "base", "b", false, "the jobspec without later updates")
	return cmd
}

func jobInfo(ctx context.Context, e *env, arg, key string, base bool) error {
	id, err := e.parseOneID(arg)
	if err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	rep, err := client.Call(ctx, c, api.Info, api.InfoReq{ID: id, Key: key, Base: base})
	if err != nil {
		return infoError(e, id, err)
	}
	text := rep.Value
	if !strings.HasSuffix(text, "\n") && text != "" {
		text += "\n"
	}
	_, err = io.WriteString(e.stdout, text)
	return err
}

// infoError puts the id in front of an error.
func infoError(e *env, id jobspec.ID, err error) error {
	if isNotFound(err) && strings.HasPrefix(err.Error(), "unknown job id ") {
		return fmt.Errorf("%s: unknown job id", e.idText(id)) // not its number twice
	}
	return fmt.Errorf("%s: %w", e.idText(id), err)
}
