package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type kvsUnlinkOptions struct {
	ns        string
	sequence  bool
	recursive bool
	force     bool
}

func newKvsUnlinkCmd(e *env) *cobra.Command {
	o := &kvsUnlinkOptions{}
	cmd := &cobra.Command{
		Use:     "unlink [OPTIONS] KEY…",
		Short:   "Remove keys, all of them or none",
		Long:    `Remove keys, in one commit. A link is removed, not what it leads to.` + kvsExit,
		Example: "  frond kvs unlink a.b\n  frond kvs unlink -R a",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ops := make([]api.KVSOp, len(args))
			for i, key := range args {
				ops[i] = api.KVSOp{Kind: api.KVSUnlink, Key: key, Recursive: o.recursive, Must: !o.force}
			}
			return e.kvsCommit(cmd.Context(), o.ns, ops, o.sequence)
		},
	}
	f := cmd.Flags()
	addNamespace(f, &o.ns)
	f.BoolVarP(&o.sequence, "sequence", "s", false, "print the namespace's sequence number afterwards")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "directories with all below")
	f.BoolVarP(&o.force, "force", "f", false, "a key that is not there is no error")
	return cmd
}

func newKvsMkdirCmd(e *env) *cobra.Command {
	ns, sequence := "", false
	cmd := &cobra.Command{
		Use:     "mkdir [OPTIONS] KEY…",
		Short:   "Make directories",
		Long:    `Make directories, with those above them. One that is there already stays as it is.` + kvsExit,
		Example: "  frond kvs mkdir a.b",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ops := make([]api.KVSOp, len(args))
			for i, key := range args {
				ops[i] = api.KVSOp{Kind: api.KVSMkdir, Key: key}
			}
			return e.kvsCommit(cmd.Context(), ns, ops, sequence)
		},
	}
	addNamespace(cmd.Flags(), &ns)
	cmd.Flags().BoolVarP(&sequence, "sequence", "s", false, "print the namespace's sequence number afterwards")
	return cmd
}

func newKvsLinkCmd(e *env) *cobra.Command {
	ns, target, sequence := "", "", false
	cmd := &cobra.Command{
		Use:   "link [OPTIONS] TARGET KEY",
		Short: "Make a link",
		Long: `Make KEY a link to the key TARGET, which need not be there. Who reads KEY, or a key below it, gets what TARGET has.` +
			kvsExit,
		Example: "  frond kvs link run.17 run.latest",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.kvsCommit(cmd.Context(), ns, []api.KVSOp{{Kind: api.KVSSymlink, Key: args[1], Target: args[0], TargetSpace: target}}, sequence)
		},
	}
	f := cmd.Flags()
	addNamespace(f, &ns)
	f.StringVarP(&target, "target-namespace", "T", "", "`NAME` of the target's namespace (default: the link's)")
	f.BoolVarP(&sequence, "sequence", "s", false, "print the namespace's sequence number afterwards")
	return cmd
}

func newKvsReadlinkCmd(e *env) *cobra.Command {
	ns, spaceOnly, keyOnly := "", false, false
	cmd := &cobra.Command{
		Use:   "readlink [OPTIONS] KEY…",
		Short: "Print where links lead",
		Long: `Print where links lead, as KEY, or NAMESPACE::KEY if they name a namespace.

Exit codes: 0, or 1 when a key is not there or no link.`,
		Example: "  frond kvs readlink run.latest",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if spaceOnly && keyOnly {
				return errors.New("--namespace-only and --key-only exclude each other")
			}
			return e.connected(cmd.Context(), func(c *client.Client) error {
				for _, key := range args {
					text, err := readLink(cmd.Context(), e, c, ns, key)
					if err != nil {
						return err
					}
					if s, k, ok := strings.Cut(text, "::"); keyOnly && ok {
						text = k
					} else if spaceOnly {
						text = s
						if !ok {
							continue
						}
					}
					fmt.Fprintln(e.stdout, text)
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	addNamespace(f, &ns)
	f.BoolVarP(&spaceOnly, "namespace-only", "o", false, "print the namespaces of links that name one")
	f.BoolVarP(&keyOnly, "key-only", "k", false, "print the keys alone")
	return cmd
}

func readLink(ctx context.Context, e *env, c *client.Client, ns, key string) (string, error) {
	ent, err := call(ctx, c, api.KVSGet, wire.Any, api.KVSGetReq{Namespace: e.namespace(ns), Key: key, NoFollow: true})
	if err == nil && ent.Kind != api.KVSLink {
		err = fmt.Errorf("%s is no link", key)
	}
	return string(ent.Data), err
}

// newKvsCopyCmd is copy, or move.
func newKvsCopyCmd(e *env, move bool) *cobra.Command {
	verb, short := "copy", "Copy a key, a directory with all below"
	if move {
		verb, short = "move", "Give a key another name"
	}
	src, dst := "", ""
	cmd := &cobra.Command{
		Use:     verb + " [OPTIONS] SOURCE DESTINATION",
		Short:   short,
		Long:    short + ". What is at the destination is replaced." + kvsExit,
		Example: "  frond kvs " + verb + " a.b c.d",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.kvsCopy(cmd.Context(), e.namespace(src), e.namespace(dst), args[0], args[1], move)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&src, "src-namespace", "S", "", "`NAME` of the source's namespace")
	f.StringVarP(&dst, "dst-namespace", "D", "", "`NAME` of the destination's namespace")
	return cmd
}

func (e *env) kvsCopy(ctx context.Context, src, dst, from, to string, move bool) error {
	if move && src == dst && strings.HasPrefix(plainKey(to)+".", plainKey(from)+".") {
		return fmt.Errorf("%s cannot be moved to %s: that is the same key or below it", from, to)
	}
	ops := []api.KVSOp{{Kind: api.KVSCopy, Key: to, Target: from, TargetSpace: keyOr(src, api.KVSPrimary)}}
	gone := api.KVSOp{Kind: api.KVSUnlink, Key: from, Recursive: true, Must: true}
	if move && src == dst {
		return e.kvsCommit(ctx, dst, append(ops, gone), false)
	}
	if err := e.kvsCommit(ctx, dst, ops, false); err != nil || !move {
		return err
	}
	return e.kvsCommit(ctx, src, []api.KVSOp{gone}, false)
}

// plainKey is a key without needless dots.
func plainKey(key string) string {
	return strings.Join(strings.FieldsFunc(key, func(r rune) bool { return r == '.' }), ".")
}
