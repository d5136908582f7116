package main

import (
	"context"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

// version is the program's version, three numbers. The build may set it (-ldflags -X main.version=…).
var version = "0.1.0"

func newVersionCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version of the command, and of the broker if there is an instance",
		Long:    "Show the version of the command, and of the broker that FROND_URI names.\n\nExit codes: 0.",
		Example: "  frond version",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return showVersion(cmd.Context(), e) },
	}
}

// showVersion prints the lines of `flux version`, whose first one tools match on. Without an instance there is but that.
func showVersion(ctx context.Context, e *env) error {
	fmt.Fprintf(e.stdout, "commands:    \t\t%s\n", version)
	uri, err := e.uri()
	if err != nil {
		if e.target != "" {
			return err
		}
		return nil
	}
	return e.connected(ctx, func(c *client.Client) error {
		rep, err := call(ctx, c, api.AttrGet, wire.Any, api.AttrReq{Name: "version"})
		if err != nil {
			return err
		}
		fmt.Fprintf(e.stdout, "broker:  \t\t%s\nFROND_URI:  \t\t%s\n", rep.Value, uri)
		return nil
	})
}
