package main

import (
	"bufio"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
)

func newLptestCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "lptest [LENGTH] [COUNT]",
		Short: "Print a pattern of characters, to test output with",
		Long: `Print COUNT lines (default 200) of LENGTH characters (default 79), each beginning one character later.

Exit codes: 0, or 1 for a number that is none.`,
		Example: "  frond run -n4 -l frond lptest 40 3",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			n := []int{79, 200}
			for i, a := range args {
				v, err := strconv.Atoi(a)
				if err != nil || v < 0 || v > 1<<20 {
					return fmt.Errorf("%q is no number from 0 to %d", a, 1<<20)
				}
				n[i] = v
			}
			return lptest(e, n[0], n[1])
		},
	}
}

// lptest prints the printable characters of ASCII over and over.
func lptest(e *env, length, count int) error {
	out := bufio.NewWriter(e.stdout)
	line := make([]byte, length+1)
	line[length] = '\n'
	for i := range count {
		for k := range length {
			line[k] = byte('!' + (i+k)%('~'-'!'+1))
		}
		if _, err := out.Write(line); err != nil {
			break // flush says it
		}
	}
	return flush(out)
}
