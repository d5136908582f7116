package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

type kvsGetOptions struct {
	ns          string
	raw, label  bool
	wait, watch bool
	uniq        bool
	append      bool
	full        bool
	count       int
	stream      bool
}

func newKvsGetCmd(e *env) *cobra.Command {
	o := &kvsGetOptions{}
	cmd := &cobra.Command{
		Use:   "get [OPTIONS] KEY…",
		Short: "Print values",
		Long: `Print the values of keys, each with a newline behind it.

With --watch the value is printed again whenever the key is written, until the key is removed. Changes in quick succession may be
printed as one.

Exit codes: 0, or 1 when a key is not there, is a directory, or was removed while it was watched.`,
		Example: "  frond kvs get a.b\n  frond kvs get --waitcreate --watch --count=3 progress",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	addNamespace(f, &o.ns)
	f.BoolVarP(&o.raw, "raw", "r", false, "print the bytes of the value and nothing else")
	f.BoolVarP(&o.label, "label", "l", false, "print KEY= in front")
	f.BoolVarP(&o.wait, "waitcreate", "W", false, "wait until the key is there")
	f.BoolVarP(&o.watch, "watch", "w", false, "go on with the changes of the value")
	f.BoolVarP(&o.uniq, "uniq", "u", false, "with --watch: only other values than the one before")
	f.BoolVarP(&o.append, "append", "A", false, "with --watch: only what is appended; that the value is replaced is an error")
	f.BoolVarP(&o.full, "full", "f", false, "with --watch: also changes by way of a directory above (this is always so)")
	f.IntVarP(&o.count, "count", "c", 0, "with --watch: stop after `N` values")
	f.BoolVarP(&o.stream, "stream", "S", false, "read large values in parts (this is done as needed)")
	return cmd
}

func (o *kvsGetOptions) run(ctx context.Context, e *env, keys []string) error {
	switch {
	case o.count < 0:
		return errors.New("--count must not be negative")
	case !o.watch && (o.uniq || o.append || o.full || o.count > 0):
		return errors.New("--uniq, --append, --full and --count need --watch")
	case o.uniq && o.append:
		return errors.New("--uniq and --append exclude each other")
	}
	p := &kvsPrinter{o: o, out: bufio.NewWriter(e.stdout)}
	return e.connected(ctx, func(c *client.Client) error {
		var errs []error
		if o.watch && len(keys) > 1 {
			errs = o.watchAll(ctx, e, c, keys, p)
		} else {
			for _, key := range keys {
				errs = append(errs, o.one(ctx, e, c, key, p))
			}
		}
		return errors.Join(append(errs, flush(p.out))...)
	})
}

// watchAll watches several keys at once.
func (o *kvsGetOptions) watchAll(ctx context.Context, e *env, c *client.Client, keys []string, p *kvsPrinter) []error {
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() { errs[i] = o.one(ctx, e, c, key, p) })
	}
	wg.Wait()
	return errs
}

// one prints one key.
func (o *kvsGetOptions) one(ctx context.Context, e *env, c *client.Client, key string, p *kvsPrinter) error {
	ns := e.namespace(o.ns)
	if !o.watch && !o.wait {
		ent, err := kvsGet(ctx, c, ns, key)
		if err != nil {
			return err
		}
		if err = p.print(key, ent.Data); errors.Is(err, errEnough) {
			err = nil
		}
		return err
	}
	n := 0
	err := kvsFollow(ctx, c, api.KVSWatchReq{Namespace: ns, Key: key, WaitCreate: o.wait, Uniq: o.uniq, Append: o.append}, func(ent api.KVSEntry) error {
		if err := p.print(key, ent.Data); err != nil {
			return err
		}
		if n++; !o.watch || n == o.count {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// kvsPrinter prints values as they come.
type kvsPrinter struct {
	o   *kvsGetOptions
	mu  sync.Mutex
	out *bufio.Writer
}

func (p *kvsPrinter) print(key string, value []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.label {
		fmt.Fprintf(p.out, "%s=", key)
	}
	p.out.Write(value)
	if !p.o.raw {
		p.out.WriteByte('\n')
	}
	err := p.out.Flush()
	if errors.Is(err, syscall.EPIPE) {
		return errEnough // there is nobody left to tell
	}
	return err
}
