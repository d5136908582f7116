package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newKvsCmd is `frond kvs`, the instance's key-value store.
func newKvsCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kvs COMMAND",
		Short: "The instance's key-value store: get, put, dir, watch …",
		Long: `The instance's key-value store. Keys are names joined by dots, as in a.b.c; a key holds a value of up to 16 MiB, a directory or a link.
What a command has written is in the state directory when it returns, and everybody reads it from then on.

A namespace is a store of its own: --namespace, else FROND_KVS_NAMESPACE, else "primary".`,
		Example: "  frond kvs put run.step=7\n  frond kvs get run.step",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKvsGetCmd(e), newKvsPutCmd(e), newKvsDirCmd(e), newKvsLsCmd(e), newKvsUnlinkCmd(e), newKvsLinkCmd(e), newKvsReadlinkCmd(e),
		newKvsMkdirCmd(e), newKvsCopyCmd(e, false), newKvsCopyCmd(e, true), newKvsWatchCmd(e), newKvsVersionCmd(e), newKvsWaitCmd(e), newKvsGetrootCmd(e),
		newKvsSyncCmd(e), newKvsEventlogCmd(e), newKvsNamespaceCmd(e))
	return cmd
}

const kvsExit = "\n\nExit codes: 0, or 1 when that could not be done; then nothing has changed."

// addNamespace declares --namespace.
func addNamespace(f *pflag.FlagSet, ns *string) {
	f.StringVarP(ns, "namespace", "N", "", "`NAME` of the namespace (default: FROND_KVS_NAMESPACE, else primary)")
}

// namespace is what --namespace means.
func (e *env) namespace(flag string) string {
	if flag == "" {
		return e.getenv("FROND_KVS_NAMESPACE")
	}
	return flag
}

// kvsCommit makes one commit; with show it prints the sequence number after it.
func (e *env) kvsCommit(ctx context.Context, ns string, ops []api.KVSOp, show bool) error {
	return e.connected(ctx, func(c *client.Client) error {
		token := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())
		rep, err := call(ctx, c, api.KVSCommitOnce, wire.Any, api.KVSCommitReq{Namespace: e.namespace(ns), Ops: ops, Token: token})
		if err == nil && show {
			_, err = fmt.Fprintln(e.stdout, rep.Seq)
		}
		return err
	})
}

// kvsValue completes an entry whose value is too large for the answer that it came in.
func kvsValue(ctx context.Context, c *client.Client, ns, key string, ent api.KVSEntry) (api.KVSEntry, error) {
	if !ent.Big {
		return ent, nil
	}
	rep, err := call(ctx, c, api.KVSRead, wire.Any, api.KVSReadReq{Namespace: ns, Key: key, Offset: ent.From})
	if err != nil {
		return ent, err
	}
	rep.Key = ent.Key
	return rep, nil
}

// kvsGet reads a value of any size.
func kvsGet(ctx context.Context, c *client.Client, ns, key string) (api.KVSEntry, error) {
	ent, err := call(ctx, c, api.KVSGet, wire.Any, api.KVSGetReq{Namespace: ns, Key: key})
	if err != nil {
		return ent, err
	}
	if ent.Kind == api.KVSDir {
		return ent, fmt.Errorf("%s is a directory ('frond kvs dir %s' shows it)", key, key)
	}
	return kvsValue(ctx, c, ns, key, ent)
}

// kvsFollow calls each with what a watch tells until it returns errEnough. After a lost connection what was told before is left out.
func kvsFollow(ctx context.Context, c *client.Client, req api.KVSWatchReq, each func(api.KVSEntry) error) error {
	s, err := client.Open(ctx, c, api.KVSWatch, req)
	if err != nil {
		return err
	}
	defer s.Close()
	var seen uint64
	have := 0 // bytes of the value, with Append
	again, last := 0, []byte(nil)
	for {
		ent, err := s.Next()
		if err != nil {
			return err
		}
		if ent.Seq <= seen && !req.Tree || req.Append && ent.Size <= have && have > 0 {
			continue
		}
		if req.Append && ent.From < have {
			ent = skipSeen(ent, have)
		}
		if ent, err = kvsValue(ctx, c, req.Namespace, keyOr(ent.Key, req.Key), ent); err != nil {
			return err
		}
		if r := s.Restarts(); r > again {
			if again = r; !req.Append && ent.Key == "" && bytes.Equal(ent.Data, last) {
				continue // as it was before the connection was lost
			}
		}
		seen, have, last = ent.Seq, ent.From+len(ent.Data), ent.Data
		if err := each(ent); err != nil {
			return err
		}
	}
}

// skipSeen leaves out what of a value that grows has been printed.
func skipSeen(ent api.KVSEntry, have int) api.KVSEntry {
	if !ent.Big {
		ent.Data = ent.Data[have-ent.From:]
	}
	ent.From = have
	return ent
}

func keyOr(key, other string) string {
	if key == "" {
		return other
	}
	return key
}

// errEnough ends kvsFollow.
var errEnough = errors.New("enough")

// printable writes a value for one line of a terminal.
func printable(b []byte) string {
	var out strings.Builder
	for _, r := range strings.ToValidUTF8(string(b), "\uFFFD") {
		switch {
		case r == '\n':
			out.WriteString(`\n`)
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
