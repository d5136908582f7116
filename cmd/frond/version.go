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
	asJSON := false
	cmd := &cobra.Command{
		Use:     "version [--json]",
		Short:   "Show the version of the command, and of the broker if there is an instance",
		Long:    "Show the version of the command, and of the broker that FROND_URI names.\n\nExit codes: 0.",
		Example: "  frond version",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return showVersion(cmd.Context(), e, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// versions are those of a command and of the broker that it talks to.
type versions struct {
	Commands string `json:"commands"`
	Broker   string `json:"broker,omitempty"`
	URI      string `json:"uri,omitempty"`
}

// showVersion prints the lines of `flux version`, whose first one tools match on. Without an instance there is but that.
func showVersion(ctx context.Context, e *env, asJSON bool) error {
	v := versions{Commands: version}
	if !asJSON {
		fmt.Fprintf(e.stdout, "commands:    \t\t%s\n", version)
	}
	uri, err := e.uri()
	if err != nil && e.target != "" {
		return err
	}
	if err == nil {
		v.URI = uri
		err := e.connected(ctx, func(c *client.Client) error {
			rep, err := call(ctx, c, api.AttrGet, wire.Any, api.AttrReq{Name: "version"})
			v.Broker = rep.Value
			return err
		})
		if err != nil {
			return err
		}
	}
	switch {
	case asJSON:
		return writeJSON(e.stdout, v)
	case v.Broker != "":
		fmt.Fprintf(e.stdout, "broker:  \t\t%s\nFROND_URI:  \t\t%s\n", v.Broker, v.URI)
	}
	return nil
}
