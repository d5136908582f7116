package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
)

type kvsDirOptions struct {
	ns        string
	recursive bool
	keysOnly  bool
	width     int
	json      bool
}

func newKvsDirCmd(e *env) *cobra.Command {
	o := &kvsDirOptions{}
	cmd := &cobra.Command{
		Use:   "dir [OPTIONS] [KEY]",
		Short: "List a directory with the values",
		Long: `List a directory, by default the root, one key a line: "KEY = VALUE", "KEY." for a directory, "KEY -> TARGET" for a link.

Exit codes: 0, or 1 when the key is not there or no directory.`,
		Example: "  frond kvs dir -R run",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key := "."
			if len(args) > 0 {
				key = args[0]
			}
			return o.run(cmd.Context(), e, key)
		},
	}
	f := cmd.Flags()
	addNamespace(f, &o.ns)
	f.BoolVarP(&o.recursive, "recursive", "R", false, "with all below")
	f.BoolVarP(&o.keysOnly, "directory", "d", false, "without the values")
	f.IntVarP(&o.width, "width", "w", -1, "cut lines at `N` columns; 0 = never (default: the terminal's width)")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	return cmd
}

func (o *kvsDirOptions) run(ctx context.Context, e *env, key string) error {
	width := e.kvsWidth(o.width)
	out := bufio.NewWriter(e.stdout)
	err := e.connected(ctx, func(c *client.Client) error {
		data := api.KVSInline
		if o.keysOnly {
			data = 0
		}
		return e.kvsWalk(ctx, c, o.ns, key, plainKey(key), data, o.recursive, func(key string, ent api.KVSEntry) error {
			if o.json {
				return writeJSON(out, kvsJSONOf(key, ent))
			}
			writeLine(out, cutTo(o.line(key, ent), width))
			return nil
		})
	})
	if ferr := flush(out); err == nil {
		err = ferr
	}
	return err
}

func (o *kvsDirOptions) line(key string, ent api.KVSEntry) string {
	key = printable([]byte(key))
	switch {
	case ent.Kind == api.KVSDir:
		return key + "."
	case ent.Kind == api.KVSLink:
		return key + " -> " + printable(ent.Data)
	case o.keysOnly:
		return key
	}
	text := key + " = " + printable(ent.Data)
	if ent.Big {
		text += fmt.Sprintf("… (%d bytes)", ent.Size)
	}
	return text
}

// kvsJSON is an entry of a listing for programs.
type kvsJSON struct {
	Key    string `json:"key"`
	Type   string `json:"type"`
	Value  []byte `json:"value,omitempty"` // base64; left out where it is larger than 4000 bytes
	Target string `json:"target,omitempty"`
	Size   int    `json:"size"`
}

func kvsJSONOf(key string, ent api.KVSEntry) kvsJSON {
	j := kvsJSON{Key: key, Type: "val", Size: ent.Size}
	switch {
	case ent.Kind == api.KVSDir:
		j.Type = "dir"
	case ent.Kind == api.KVSLink:
		j.Type, j.Target = "symlink", string(ent.Data)
	case !ent.Big:
		j.Value = ent.Data
	}
	return j
}

// kvsList calls f for the entries of one directory.
func (e *env) kvsList(ctx context.Context, c *client.Client, ns, key string, data int, f func(api.KVSEntry) error) error {
	for after := ""; ; {
		rep, err := call(ctx, c, api.KVSList, wire.Any, api.KVSListReq{Namespace: e.namespace(ns), Key: key, After: after, Data: data})
		if err != nil {
			return err
		}
		for _, ent := range rep.Entries {
			if err := f(ent); err != nil {
				return err
			}
			after = ent.Name
		}
		if !rep.More {
			return nil
		}
	}
}

// kvsWalk calls f for the entries of a directory, with their keys, and with recursive for all below.
func (e *env) kvsWalk(ctx context.Context, c *client.Client, ns, key, prefix string, data int, recursive bool, f func(string, api.KVSEntry) error) error {
	if prefix != "" {
		prefix += "."
	}
	return e.kvsList(ctx, c, ns, key, data, func(ent api.KVSEntry) error {
		full := prefix + ent.Name
		if err := f(full, ent); err != nil || ent.Kind != api.KVSDir || !recursive {
			return err
		}
		return e.kvsWalk(ctx, c, ns, full, full, data, true, f)
	})
}

// kvsWidth is the width for --width: the terminal's if it was not given, 0 = no limit.
func (e *env) kvsWidth(flag int) int {
	if flag >= 0 {
		return flag
	}
	return max(0, terminalWidth(e.stdout))
}

// cutTo cuts a line at width columns (0 = never).
func cutTo(line string, width int) string {
	if width <= 0 || len([]rune(line)) <= width {
		return line
	}
	if width <= 3 {
		return strings.Repeat(".", width)
	}
	return string([]rune(line)[:width-3]) + "..."
}
