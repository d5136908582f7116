package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

func newJobMemoCmd(e *env) *cobra.Command {
	volatile, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "memo [OPTIONS] JOBID KEY=VALUE…",
		Short: "Attach notes to a job",
		Long: `Post notes on a job or a whole array that has not ended: event "memo" in its eventlog, shown by 'frond jobs --json' as annotations.user.
VALUE is JSON or plain text; null takes a note away, a dotted KEY makes objects.

Exit codes: 0, or 1 when the job is unknown or has ended.`,
		Example: "  frond job memo f2Gk stage=3 note='second mesh'",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return postMemo(cmd.Context(), e, args[0], args[1:], asJSON)
		},
	}
	cmd.Flags().BoolVar(&volatile, "volatile", false, "accepted as in Flux; a note is always kept with the job")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print how many jobs were meant and the errors as JSON")
	return cmd
}

func postMemo(ctx context.Context, e *env, job string, pairs []string, asJSON bool) error {
	ids, err := e.parseIDArg(job)
	if err != nil {
		return err
	}
	memo := map[string]any{}
	for _, p := range pairs {
		key, text, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q must be KEY=VALUE", p)
		}
		if err := jobspec.PutPath(memo, key, jsonOrText(text)); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	text, err := json.Marshal(memo)
	if err != nil {
		return err
	}
	return e.connected(ctx, func(c *client.Client) error {
		rep, err := client.Call(ctx, c, api.Update, api.UpdateReq{IDs: ids, Memo: string(text)})
		if err != nil {
			return err
		}
		return reportMulti(e, "frond job memo", rep, asJSON)
	})
}

func jsonOrText(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		return v
	}
	return text
}
