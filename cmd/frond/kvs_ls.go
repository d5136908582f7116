package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

type kvsLsOptions struct {
	ns        string
	recursive bool
	self      bool
	width     int
	one       bool
	classify  bool
}

func newKvsLsCmd(e *env) *cobra.Command {
	o := &kvsLsOptions{}
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS] [KEY…]",
		Short: "List directories, names only",
		Long: `List directories, by default the root: the names in them, in columns on a terminal, else one a line.

Exit codes: 0, or 1 when a key is not there.`,
		Example: "  frond kvs ls -F run",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	addNamespace(f, &o.ns)
	f.BoolVarP(&o.recursive, "recursive", "R", false, "with all directories below")
	f.BoolVarP(&o.self, "directory", "d", false, "list directories themselves, not what is in them")
	f.IntVarP(&o.width, "width", "w", -1, "print columns within `N`; 0 = all in one line (default: the terminal's width)")
	f.BoolVarP(&o.one, "1", "1", false, "one name a line, as it is where the output is no terminal")
	f.BoolVarP(&o.classify, "classify", "F", false, "mark directories with . and links with @")
	return cmd
}

// kvsLister prints a listing.
type kvsLister struct {
	o      *kvsLsOptions
	e      *env
	c      *client.Client
	out    *bufio.Writer
	titles bool // directories get a heading
	n      int  // blocks printed
}

func (o *kvsLsOptions) run(ctx context.Context, e *env, keys []string) error {
	if len(keys) == 0 {
		keys = []string{"."}
	}
	return e.connected(ctx, func(c *client.Client) error {
		l := &kvsLister{o: o, e: e, c: c, out: bufio.NewWriter(e.stdout), titles: len(keys) > 1 || o.recursive}
		err := l.list(ctx, keys)
		if ferr := flush(l.out); err == nil {
			err = ferr
		}
		return err
	})
}

// list prints first what is no directory, as ls does.
func (l *kvsLister) list(ctx context.Context, keys []string) error {
	var plain, dirs []string
	for _, key := range keys {
		ent, err := call(ctx, l.c, api.KVSGet, wire.Any, api.KVSGetReq{Namespace: l.e.namespace(l.o.ns), Key: key, NoFollow: l.o.self})
		if err != nil {
			return err
		}
		if ent.Kind == api.KVSDir && !l.o.self {
			dirs = append(dirs, key)
		} else {
			plain = append(plain, l.name(key, ent.Kind))
		}
	}
	if len(plain) > 0 {
		l.block("", plain)
	}
	for _, key := range dirs {
		if err := l.dir(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (l *kvsLister) dir(ctx context.Context, key string) error {
	var names, below []string
	prefix := ""
	if plainKey(key) != "" {
		prefix = plainKey(key) + "."
	}
	err := l.e.kvsList(ctx, l.c, l.o.ns, key, 0, func(ent api.KVSEntry) error {
		names = append(names, l.name(ent.Name, ent.Kind))
		if ent.Kind == api.KVSDir {
			below = append(below, prefix+ent.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.block(key, names)
	for _, sub := range below {
		if !l.o.recursive {
			return nil
		}
		if err := l.dir(ctx, sub); err != nil {
			return err
		}
	}
	return nil
}

func (l *kvsLister) name(name string, kind uint8) string {
	name = printable([]byte(name))
	switch {
	case l.o.classify && kind == api.KVSDir && name != ".":
		return name + "."
	case l.o.classify && kind == api.KVSLink:
		return name + "@"
	}
	return name
}

// block prints names under a heading.
func (l *kvsLister) block(title string, names []string) {
	if l.n++; l.n > 1 {
		l.out.WriteByte('\n')
	}
	if title != "" && l.titles {
		l.out.WriteString(printable([]byte(title)) + ":\n")
	}
	width := l.o.width
	if width < 0 {
		width = terminalWidth(l.e.stdout)
	}
	if l.o.one || width < 0 {
		for _, n := range names {
			l.out.WriteString(n + "\n")
		}
		return
	}
	writeColumns(l.out, names, width)
}

// writeColumns prints names in columns, down first, within a width; 0 = all in one line.
func writeColumns(out io.StringWriter, names []string, width int) {
	widest := 0
	for _, n := range names {
		widest = max(widest, utf8.RuneCountInString(n))
	}
	cols := max(len(names), 1)
	if width > 0 {
		cols = min(cols, max(1, (width+2)/(widest+2)))
	}
	rows := (len(names) + cols - 1) / cols
	for r := range rows {
		var line strings.Builder
		for i := r; i < len(names); i += rows {
			line.WriteString(names[i])
			line.WriteString(strings.Repeat(" ", widest+2-utf8.RuneCountInString(names[i])))
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// terminalWidth is the width of the terminal that w is, -1 if it is none.
func terminalWidth(w io.Writer) int {
	if f := asFile(w); f != nil {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return -1
}
