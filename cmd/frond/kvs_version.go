package main

import (
	"fmt"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

func newKvsVersionCmd(e *env) *cobra.Command {
	ns := ""
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Print a namespace's sequence number: how often it was written",
		Long: `Print a namespace's sequence number. Each commit raises it by one.

Exit codes: 0, or 1 when there is no such namespace.`,
		Example: "  frond kvs version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error {
				root, err := call(cmd.Context(), c, api.KVSGetRoot, wire.Any, api.KVSSpaceReq{Namespace: e.namespace(ns)})
				if err == nil {
					_, err = fmt.Fprintln(e.stdout, root.Seq)
				}
				return err
			})
		},
	}
	addNamespace(cmd.Flags(), &ns)
	return cmd
}

func newKvsWaitCmd(e *env) *cobra.Command {
	ns, timeout := "", ""
	cmd := &cobra.Command{
		Use:   "wait [OPTIONS] VERSION",
		Short: "Wait until a namespace has a sequence number",
		Long: `Wait until a namespace's sequence number has reached VERSION.

Exit codes: 0, or 1 when there is no such namespace or the time is over.`,
		Example: "  frond kvs wait 42",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is no version: give a whole number", args[0])
			}
			ctx, cancel, err := withTimeout(cmd.Context(), timeout)
			if err != nil {
				return err
			}
			defer cancel()
			err = e.connected(ctx, func(c *client.Client) error {
				_, err := call(ctx, c, api.KVSWait, wire.Any, api.KVSWaitReq{Namespace: e.namespace(ns), Seq: seq})
				return err
			})
			if err != nil && ctx.Err() != nil {
				err = fmt.Errorf("version %d was not reached within %s", seq, timeout)
			}
			return err
		},
	}
	addNamespace(cmd.Flags(), &ns)
	cmd.Flags().StringVarP(&timeout, "timeout", "t", "", "give up after `DURATION`")
	return cmd
}

func newKvsGetrootCmd(e *env) *cobra.Command {
	ns, seq, owner := "", false, false
	cmd := &cobra.Command{
		Use:   "getroot [OPTIONS]",
		Short: "Show a namespace as a whole",
		Long: `Show a namespace as a whole, as JSON: owner, sequence number, number of entries, and the bytes they count against the limit.

Exit codes: 0, or 1 when there is no such namespace.`,
		Example: "  frond kvs getroot -s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error {
				root, err := call(cmd.Context(), c, api.KVSGetRoot, wire.Any, api.KVSSpaceReq{Namespace: e.namespace(ns)})
				switch {
				case err != nil:
				case seq:
					_, err = fmt.Fprintln(e.stdout, root.Seq)
				case owner:
					_, err = fmt.Fprintln(e.stdout, root.Owner)
				default:
					err = writeJSON(e.stdout, root)
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	addNamespace(f, &ns)
	f.BoolVarP(&seq, "sequence", "s", false, "print the sequence number alone")
	f.BoolVarP(&owner, "owner", "o", false, "print the owner's user id alone")
	return cmd
}

func newKvsSyncCmd(e *env) *cobra.Command {
	ns := ""
	cmd := &cobra.Command{
		Use:   "sync [OPTIONS]",
		Short: "Wait until all that was written is in the state directory",
		Long: `Wait until all that was written is in the state directory. A command that has returned has done that for what it wrote.

Exit codes: 0, or 1 when the state directory cannot be written.`,
		Example: "  frond kvs sync",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return e.kvsCommit(cmd.Context(), ns, nil, false) },
	}
	addNamespace(cmd.Flags(), &ns)
	return cmd
}
