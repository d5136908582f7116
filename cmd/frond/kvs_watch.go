package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type kvsWatchOptions struct {
	ns    string
	wait  bool
	count int
	json  bool
}

func newKvsWatchCmd(e *env) *cobra.Command {
	o := &kvsWatchOptions{}
	cmd := &cobra.Command{
		Use:   "watch [OPTIONS] DIRECTORY",
		Short: "Print what changes below a directory",
		Long: `Print what changes below a directory, in the form of 'frond kvs dir', until the directory is removed: "KEY = VALUE", and "KEY" alone
for a key that was removed. ('frond kvs get --watch' watches one value.)

Exit codes: 0 after --count changes, else 1: the directory was removed, or so much changed at once that it has to be read again.`,
		Example: "  frond kvs watch -c 1 run.results",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args[0]) },
	}
	f := cmd.Flags()
	addNamespace(f, &o.ns)
	f.BoolVarP(&o.wait, "waitcreate", "W", false, "wait until the directory is there")
	f.IntVarP(&o.count, "count", "c", 0, "stop after `N` changes")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	return cmd
}

func (o *kvsWatchOptions) run(ctx context.Context, e *env, dir string) error {
	if o.count < 0 {
		return errors.New("--count must not be negative")
	}
	n := 0
	show := &kvsDirOptions{}
	err := e.connected(ctx, func(c *client.Client) error {
		req := api.KVSWatchReq{Namespace: e.namespace(o.ns), Key: dir, WaitCreate: o.wait, Tree: true}
		return kvsFollow(ctx, c, req, func(ent api.KVSEntry) error {
			if ent.Key == "" {
				return nil // the directory as it is
			}
			if err := o.print(e, show, ent); err != nil {
				return err
			}
			if n++; n == o.count {
				return errEnough
			}
			return nil
		})
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (o *kvsWatchOptions) print(e *env, show *kvsDirOptions, ent api.KVSEntry) error {
	if o.json {
		j := kvsJSONOf(ent.Key, ent)
		if ent.Kind == 0 {
			j.Type = "unlink"
		}
		return writeJSON(e.stdout, j)
	}
	text := printable([]byte(ent.Key))
	if ent.Kind != 0 {
		text = show.line(ent.Key, ent)
	}
	_, err := fmt.Fprintln(e.stdout, text)
	return err
}
