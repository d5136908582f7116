package main

import (
	"io"
	"net"
	"strings"

	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

func newRelayCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "relay [PATH|NAME]",
		Short: "Join standard input and output to an instance's socket",
		Long: `Copy standard input to the socket of an instance and what comes from it to standard output. It is what a command
on another host runs over ssh for --instance ssh://HOST/PATH. Without an argument the instance is found as by other commands.

Exit codes: 0 when either end has closed, 1 when there is no such instance.`,
		Example: "  ssh node17 frond relay lab",
		Args:    cobra.MaximumNArgs(1),
		Hidden:  true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				e.target = args[0]
				if strings.HasPrefix(args[0], "/") {
					e.target = "local://" + args[0]
				}
			}
			return relay(e)
		},
	}
}

// relay copies between the streams and the socket until the instance closes it, or all input has been answered.
func relay(e *env) error {
	uri, err := e.uri()
	if err != nil {
		return err
	}
	path, ok := strings.CutPrefix(uri, "local://")
	if !ok {
		return wire.Errorf(wire.Invalid, "%s: only an instance on this host can be relayed", uri)
	}
	nc, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer nc.Close()
	go func() { // ends with the process at the latest
		io.Copy(nc, e.stdin)
		nc.Close() // the client has gone
	}()
	io.Copy(struct{ io.Writer }{e.stdout}, nc) // as a writer alone: that reading ends is no error of the output
	return nil
}
