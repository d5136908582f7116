package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

type hostlistOptions struct {
	expand    bool
	delimiter string
	count     bool
	nth       string
	find      string
	limit     int
	sort      bool
	exclude   string
	union     bool
	intersect bool
	minus     bool
	xor       bool
	fallback  bool
	local     bool
	quiet     bool
}

func newHostlistCmd(e *env) *cobra.Command {
	o := &hostlistOptions{}
	cmd := &cobra.Command{
		Use:   "hostlist [OPTIONS] [SOURCE…]",
		Short: "Read, combine and print lists of hosts",
		Long: `Read lists of hosts, combine them and print the result in the short form, as in n[1-3,7].

A SOURCE is a list, a job's id (its hosts), or one of
  instance    all nodes of the instance
  avail       those that are online and not drained
  local       the hosts of the job that this command runs in, else instance
  stdin, -    standard input, which is also the default
Several sources are appended to each other unless an option says otherwise.

Exit codes: 0, or 1 when a source cannot be read, and with --quiet when the list is empty.`,
		Example: "  frond hostlist -e avail\n  frond hostlist -m instance n3",
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), e, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.expand, "expand", "e", false, "print every name")
	f.StringVarP(&o.delimiter, "delimiter", "d", " ", "what stands between the names of --expand and the places of --find")
	f.BoolVarP(&o.count, "count", "c", false, "print how many there are")
	f.StringVarP(&o.nth, "nth", "n", "", "only those at `[-]IDS`, from 0, or with - from the end, from 1")
	f.StringVarP(&o.find, "find", "F", "", "print the places of `HOSTS` in the list")
	f.IntVarP(&o.limit, "limit", "L", 0, "at most the first `N`, or for -N the last")
	f.BoolVarP(&o.sort, "sort", "S", false, "sort the list")
	f.StringVarP(&o.exclude, "exclude", "x", "", "without `IDS|HOSTS`: those places or names")
	f.BoolVarP(&o.union, "union", "u", false, "each host once, of all sources")
	f.BoolVar(&o.union, "unique", false, "same as --union")
	f.BoolVarP(&o.intersect, "intersect", "i", false, "the hosts that are in all sources")
	f.BoolVarP(&o.minus, "minus", "m", false, "the hosts of the first source that are in no other")
	f.BoolVarP(&o.xor, "xor", "X", false, "the hosts that are in an odd number of sources")
	f.BoolVarP(&o.fallback, "fallback", "f", false, "what looks like a job's id and is none is a host")
	f.BoolVarP(&o.local, "local", "l", false, "the default source is local")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing; the exit code tells whether there is a host")
	return cmd
}

func (o *hostlistOptions) run(ctx context.Context, e *env, args []string) error {
	n := 0
	for _, set := range []bool{o.union, o.intersect, o.minus, o.xor} {
		if set {
			n++
		}
	}
	if n > 1 {
		return errors.New("--union, --intersect, --minus and --xor exclude each other")
	}
	if len(args) == 0 {
		args = []string{"stdin"}
		if o.local {
			args[0] = "local"
		}
	}
	s := &hostSources{e: e, fallback: o.fallback}
	defer s.close()
	var lists [][]string
	for _, a := range args {
		hosts, err := s.read(ctx, a)
		if err != nil {
			return err
		}
		lists = append(lists, hosts)
	}
	hosts, err := o.choose(o.combine(lists))
	if err != nil {
		return err
	}
	return o.print(e, hosts)
}

// combine makes one list of all.
func (o *hostlistOptions) combine(lists [][]string) []string {
	switch {
	case o.intersect:
		return intersectLists(lists)
	case o.minus:
		return minusLists(lists[0], lists[1:])
	case o.xor:
		return xorLists(lists)
	}
	all := slices.Concat(lists...)
	if o.union {
		all = unique(all)
	}
	return all
}

func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(slices.Clone(list), func(h string) bool {
		had := seen[h]
		seen[h] = true
		return had
	})
}

// counts says in how many lists each name is.
func counts(lists [][]string) map[string]int {
	n := map[string]int{}
	for _, l := range lists {
		for _, h := range unique(l) {
			n[h]++
		}
	}
	return n
}

func intersectLists(lists [][]string) []string {
	n := counts(lists)
	return slices.DeleteFunc(unique(lists[0]), func(h string) bool { return n[h] < len(lists) })
}

func minusLists(first []string, rest [][]string) []string {
	n := counts(rest)
	return slices.DeleteFunc(slices.Clone(first), func(h string) bool { return n[h] > 0 })
}

func xorLists(lists [][]string) []string {
	n := counts(lists)
	return slices.DeleteFunc(unique(slices.Concat(lists...)), func(h string) bool { return n[h]%2 == 0 })
}

// choose sorts and leaves out.
func (o *hostlistOptions) choose(hosts []string) ([]string, error) {
	if o.sort {
		hosts = slices.Clone(hosts)
		slices.SortStableFunc(hosts, compareHosts)
	}
	if o.exclude != "" {
		var err error
		if hosts, err = excludeHosts(hosts, o.exclude); err != nil {
			return nil, err
		}
	}
	if o.nth != "" {
		var err error
		if hosts, err = nthHosts(hosts, o.nth); err != nil {
			return nil, err
		}
	}
	switch {
	case o.limit > 0:
		hosts = hosts[:min(o.limit, len(hosts))]
	case o.limit < 0:
		hosts = hosts[max(0, len(hosts)+o.limit):]
	}
	return hosts, nil
}

// compareHosts orders names by what stands before their last number, and by that.
func compareHosts(a, b string) int {
	pa, na := splitNumber(a)
	pb, nb := splitNumber(b)
	if c := strings.Compare(pa, pb); c != 0 {
		return c
	}
	ta, tb := strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
	if len(ta) != len(tb) {
		return len(ta) - len(tb)
	}
	if c := strings.Compare(ta, tb); c != 0 {
		return c
	}
	return len(na) - len(nb)
}

func splitNumber(host string) (prefix, digits string) {
	i := len(host)
	for i > 0 && host[i-1] >= '0' && host[i-1] <= '9' {
		i--
	}
	return host[:i], host[i:]
}

func excludeHosts(hosts []string, what string) ([]string, error) {
	if set, err := idset.Parse(what); err == nil {
		return slices.Concat(keepPlaces(hosts, func(i int) bool { return !set.Has(i) })), nil
	}
	out, err := hostlist.Parse(what)
	if err != nil {
		return nil, fmt.Errorf("--exclude %q: neither places nor hosts: %w", what, err)
	}
	return minusLists(hosts, [][]string{out}), nil
}

func keepPlaces(hosts []string, keep func(i int) bool) (kept []string) {
	for i, h := range hosts {
		if keep(i) {
			kept = append(kept, h)
		}
	}
	return kept
}

func nthHosts(hosts []string, what string) ([]string, error) {
	text, fromEnd := strings.CutPrefix(what, "-")
	set, err := idset.Parse(text)
	if err != nil || set.Empty() {
		return nil, fmt.Errorf("--nth %q: give places as in 0-3,7 or -1", what)
	}
	if last := set.Max(); !fromEnd && last >= len(hosts) || fromEnd && (last > len(hosts) || set.Min() == 0) {
		return nil, fmt.Errorf("--nth %s: the list has %s", what, countText(len(hosts), "host"))
	}
	return keepPlaces(hosts, func(i int) bool { return !fromEnd && set.Has(i) || fromEnd && set.Has(len(hosts)-i) }), nil
}

func (o *hostlistOptions) print(e *env, hosts []string) error {
	var text string
	switch {
	case o.quiet:
		if len(hosts) == 0 {
			return &exitError{Code: 1}
		}
		return nil
	case o.find != "":
		places, err := findHosts(hosts, o.find)
		if err != nil {
			return err
		}
		text = strings.Join(places, delimiter(o.delimiter))
	case o.count:
		text = strconv.Itoa(len(hosts))
	case o.expand:
		text = strings.Join(hosts, delimiter(o.delimiter))
	default:
		text = hostlist.Encode(hosts)
	}
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintln(e.stdout, text)
	return err
}

// delimiter reads \n and \t.
func delimiter(text string) string {
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text)
}

func findHosts(hosts []string, what string) (places []string, err error) {
	names, err := hostlist.Parse(what)
	if err != nil {
		return nil, fmt.Errorf("--find: %w", err)
	}
	for _, name := range names {
		i := slices.Index(hosts, name)
		if i < 0 {
			return nil, fmt.Errorf("--find: %s is not in the list", name)
		}
		places = append(places, strconv.Itoa(i))
	}
	return places, nil
}

// hostSources reads sources, with one connection if one is needed.
type hostSources struct {
	e        *env
	c        *client.Client
	fallback bool
}

func (s *hostSources) close() {
	if s.c != nil {
		s.c.Close()
	}
}

func (s *hostSources) connect(ctx context.Context) (err error) {
	if s.c == nil {
		s.c, err = s.e.connect(ctx)
	}
	return err
}

func (s *hostSources) read(ctx context.Context, source string) ([]string, error) {
	switch source {
	case "instance", "avail", "available":
		return s.instance(ctx, source != "instance")
	case "local":
		if id := s.e.getenv("FROND_JOB_ID"); id != "" {
			return s.job(ctx, id)
		}
		return s.instance(ctx, false)
	case "stdin", "-":
		return s.stdin()
	}
	if _, err := jobspec.ParseID(source); err == nil && !strings.ContainsAny(source, "[,") {
		hosts, err := s.job(ctx, source)
		if err == nil || !s.fallback {
			return hosts, err
		}
	}
	return hostlist.Parse(source)
}

const mostHosts = 16 << 20 // bytes of standard input

func (s *hostSources) stdin() ([]string, error) {
	text, err := io.ReadAll(io.LimitReader(s.e.stdin, mostHosts))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	var hosts []string
	for word := range strings.FieldsSeq(string(text)) {
		more, err := hostlist.Parse(word)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, more...)
	}
	return hosts, nil
}

func (s *hostSources) instance(ctx context.Context, avail bool) ([]string, error) {
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	rep, err := call(ctx, s.c, api.ResourceStatus, wire.Any, api.Empty{})
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, n := range rep.Nodes {
		if !avail || n.Online && !n.Drained {
			hosts = append(hosts, n.Node.Name)
		}
	}
	return hosts, nil
}

// job is the hosts of a job that has some.
func (s *hostSources) job(ctx context.Context, id string) ([]string, error) {
	if err := s.connect(ctx); err != nil {
		return nil, fmt.Errorf("%s looks like a job's id (--fallback takes it as a host): %w", id, err)
	}
	ids, err := s.e.parseIDs([]string{id})
	if err == nil {
		err = s.e.checkElements(ctx, s.c)
	}
	if err != nil {
		return nil, err
	}
	var hosts []string
	err = stream(ctx, s.c, api.List, wire.Any, api.ListReq{IDs: ids}, func(rep api.ListRep) error {
		for i := range rep.Jobs {
			more, err := hostlist.Parse(rep.Jobs[i].Nodelist)
			if err != nil {
				return err
			}
			hosts = append(hosts, more...)
		}
		return nil
	})
	if err == nil && len(hosts) == 0 {
		err = fmt.Errorf("job %s has no hosts", id)
	}
	return unique(hosts), err
}
