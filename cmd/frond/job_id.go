package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newJobIDCmd(e *env) *cobra.Command {
	to := "dec"
	cmd := &cobra.Command{
		Use:   "id [--to=ENCODING] [JOBID…]",
		Short: "Convert job ids between their encodings",
		Long: `Print job ids in another encoding: dec, f58, f58plain, hex, dothex or kvs. Ids are read from
standard input where none are given.

Exit codes: 0, or 1 for what is not a job id.`,
		Example: "  frond job id --to=dec f2Gk",
		RunE:    func(_ *cobra.Command, args []string) error { return convertIDs(e, args, to) },
	}
	cmd.Flags().StringVarP(&to, "to", "t", "dec", "the encoding to print")
	return cmd
}

func convertIDs(e *env, args []string, to string) error {
	out := bufio.NewWriter(e.stdout)
	convert := func(arg string) error {
		ids, err := e.parseIDArg(arg)
		if err != nil {
			return err
		}
		for _, id := range ids {
			s, err := id.Encode(to)
			if to == "f58" {
				s = e.idText(id)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(out, s)
		}
		return nil
	}
	if len(args) == 0 && e.stdin != nil {
		lines := bufio.NewScanner(e.stdin)
		for lines.Scan() {
			args = append(args, strings.Fields(lines.Text())...)
		}
		if err := lines.Err(); err != nil {
			return err
		}
	}
	for _, a := range args {
		if err := convert(a); err != nil {
			return err
		}
	}
	return flush(out)
}
