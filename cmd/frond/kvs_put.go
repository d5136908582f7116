package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type kvsPutOptions struct {
	ns       string
	sequence bool
	raw      bool
	noMerge  bool
	append   bool
	sync     bool
}

func newKvsPutCmd(e *env) *cobra.Command {
	o := &kvsPutOptions{}
	cmd := &cobra.Command{
		Use:   "put [OPTIONS] KEY=VALUE…",
		Short: "Write values, all of them or none",
		Long: `Write values, in one commit: everybody sees all of them or none. What was there is replaced, and directories on the way are made.
The value - is standard input.` + kvsExit,
		Example: "  frond kvs put a.b=1 a.c=2\n  frond kvs put input.json=- < input.json",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	addNamespace(f, &o.ns)
	f.BoolVarP(&o.sequence, "sequence", "s", false, "print the namespace's sequence number afterwards")
	f.BoolVarP(&o.raw, "raw", "r", false, "write the bytes as they are (this is always so)")
	f.BoolVarP(&o.noMerge, "no-merge", "n", false, "a commit with a sequence number of its own (this is always so)")
	f.BoolVarP(&o.append, "append", "A", false, "append to the values")
	f.BoolVarP(&o.sync, "sync", "S", false, "return when it is in the state directory (this is always so)")
	return cmd
}

func (o *kvsPutOptions) run(ctx context.Context, e *env, args []string) error {
	ops := make([]api.KVSOp, len(args))
	for i, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return fmt.Errorf("%q is not KEY=VALUE", a)
		}
		ops[i] = api.KVSOp{Kind: api.KVSPut, Key: key, Data: []byte(value)}
		if o.append {
			ops[i].Kind = api.KVSAppend
		}
		if value == "-" {
			data, err := io.ReadAll(io.LimitReader(e.stdin, wire.MaxFrame+1))
			if err != nil {
				return fmt.Errorf("read the value of %s: %w", key, err)
			}
			ops[i].Data = data
		}
	}
	if err := checkCommit(ops); err != nil {
		return err
	}
	return e.kvsCommit(ctx, o.ns, ops, o.sequence)
}

// checkCommit refuses what does not fit into one message.
func checkCommit(ops []api.KVSOp) error {
	const most = wire.MaxFrame - 64<<10
	size := 0
	for _, op := range ops {
		if len(op.Data) > most {
			return fmt.Errorf("%s: a value of more than %d bytes is over the limit: keep it in a file", op.Key, most)
		}
		size += len(op.Key) + len(op.Data) + 32
	}
	if size > most+32<<10 {
		return fmt.Errorf("a commit of %d bytes is over the limit of %d: write in several", size, most)
	}
	return nil
}
