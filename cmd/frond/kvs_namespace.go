package main

import (
	"fmt"
	"os/user"
	"strconv"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

func newKvsNamespaceCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "namespace COMMAND",
		Short:   "Create, remove and list namespaces",
		Example: "  frond kvs namespace create mine\n  frond kvs put -N mine a=1",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKvsNamespaceCreateCmd(e), newKvsNamespaceRemoveCmd(e), newKvsNamespaceListCmd(e))
	return cmd
}

func newKvsNamespaceCreateCmd(e *env) *cobra.Command {
	owner := ""
	cmd := &cobra.Command{
		Use:     "create [OPTIONS] NAME…",
		Short:   "Create namespaces",
		Long:    "Create namespaces, which are empty." + kvsExit,
		Example: "  frond kvs namespace create mine",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			uid, err := userID(owner)
			if err != nil {
				return err
			}
			return e.connected(cmd.Context(), func(c *client.Client) error {
				for _, name := range args {
					if _, err := call(cmd.Context(), c, api.KVSCreate, wire.Any, api.KVSSpaceReq{Namespace: name, Owner: uid}); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&owner, "owner", "o", "", "`USER` whose it is said to be (default: yours)")
	return cmd
}

// userID reads a user's name or id; "" = 0.
func userID(text string) (uint32, error) {
	if text == "" {
		return 0, nil
	}
	if u, err := user.Lookup(text); err == nil {
		text = u.Uid
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("--owner: there is no user %q", text)
	}
	return uint32(id), nil
}

func newKvsNamespaceRemoveCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME…",
		Short:   "Remove namespaces with all that is in them",
		Long:    "Remove namespaces with all that is in them." + kvsExit,
		Example: "  frond kvs namespace remove mine",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error {
				for _, name := range args {
					if _, err := call(cmd.Context(), c, api.KVSRemove, wire.Any, api.KVSSpaceReq{Namespace: name}); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func newKvsNamespaceListCmd(e *env) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the namespaces",
		Long:    "List the namespaces: name, owner, sequence number, entries and bytes.\n\nExit codes: 0.",
		Example: "  frond kvs namespace list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.connected(cmd.Context(), func(c *client.Client) error {
				rep, err := call(cmd.Context(), c, api.KVSSpaces, wire.Any, api.Empty{})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(e.stdout, map[string]any{"namespaces": rep.Namespaces})
				}
				fmt.Fprintf(e.stdout, "%-32s %10s %10s %10s %12s\n", "NAMESPACE", "OWNER", "SEQUENCE", "ENTRIES", "BYTES")
				for _, r := range rep.Namespaces {
					fmt.Fprintf(e.stdout, "%-32s %10d %10d %10d %12d\n", r.Namespace, r.Owner, r.Seq, r.Entries, r.Bytes)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
