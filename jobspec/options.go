package jobspec

import (
	"slices"
	"strings"

	"github.com/frond-hpc/frond/resource/idset"
)

// fillTaskOption reads the shell options about what each task gets: its number, terminal, binding, PMI.
func (js *Jobspec) fillTaskOption(key string, v any) (err error) {
	sh := &js.Shell
	switch key {
	case "pmi":
		sh.PMI, err = pmi(v)
	case "pmi-simple":
		return sh.fillPMISimple(v)
	case "taskmap":
		sh.Numbering, err = numbering(v)
	case "pty":
		return sh.fillPTY(v)
	case "env-expand":
		sh.EnvExpand, err = stringMap(v)
	case "prolog":
		sh.Prolog, err = optString(v, "")
	case "epilog":
		sh.Epilog, err = optString(v, "")
	case "verbose":
		sh.Verbose, err = verbosity(v)
	}
	return err
}

// AffinityMap reads map:IDS;IDS…: a set for each task of a node, in order.
func AffinityMap(text string) ([]idset.Set, error) {
	var sets []idset.Set
	for part := range strings.SplitSeq(strings.TrimPrefix(text, "map:"), ";") {
		set, err := idset.Parse(part)
		if err != nil {
			return nil, err
		}
		if set.Empty() || set.Max() > maxID {
			return nil, bad("each task needs a set of ids up to %d, such as 0-3", maxID)
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// maxID bounds the cpus and gpus that a map names.
const maxID = 1 << 14

// pmi reads Flux's comma list: simple, off.
func pmi(v any) (string, error) {
	text, err := optString(v, "")
	if err != nil || text == "" {
		return "", err
	}
	names := strings.Split(text, ",")
	for _, name := range names {
		if name != "simple" && name != "off" && name != "none" {
			return "", bad("%q is not offered; use simple (PMI-1, for MPICH and its relatives) or off", clip(name))
		}
	}
	if slices.Contains(names, "simple") {
		return "simple", nil
	}
	return "off", nil
}

func (sh *ShellOptions) fillPMISimple(v any) error {
	m, err := asObject(v)
	if err != nil {
		return err
	}
	sh.PMINoMap, err = optFlag(m.get("nomap"), false)
	return at("nomap", err)
}

// numbering reads a text as on the command line, or {scheme, value} as Flux writes it.
func numbering(v any) (Numbering, error) {
	if m, ok := v.(object); ok {
		scheme, err := asString(m.get("scheme"))
		if err != nil {
			return Numbering{}, at("scheme", err)
		}
		value, err := optString(m.get("value"), "")
		if err != nil {
			return Numbering{}, at("value", err)
		}
		if value != "" {
			scheme += ":" + value
		}
		v = scheme
	}
	text, err := asString(v)
	if err != nil {
		return Numbering{}, err
	}
	return ParseNumbering(text)
}

// The size of a terminal that nobody looks at.
const defaultRows, defaultCols = 24, 80

// fillPTY reads true, or {ranks, interactive, rows, cols}; output is always captured, so that capture means nothing.
func (sh *ShellOptions) fillPTY(v any) error {
	p := PTY{Ranks: "0", Rows: defaultRows, Cols: defaultCols}
	if on, err := optFlag(v, false); err == nil {
		if on {
			sh.PTY = p
		}
		return nil
	}
	m, err := asObject(v)
	if err != nil {
		return err
	}
	if p.Interactive, err = optFlag(m.get("interactive"), false); err != nil {
		return at("interactive", err)
	}
	if p.Rows, err = optInt(m.get("rows"), p.Rows, 1, 0xffff); err != nil {
		return at("rows", err)
	}
	if p.Cols, err = optInt(m.get("cols"), p.Cols, 1, 0xffff); err != nil {
		return at("cols", err)
	}
	switch r := m.get("ranks").(type) {
	case nil:
	case string:
		if p.Ranks = r; r != "all" {
			if _, err = idset.Parse(r); err != nil {
				return at("ranks", err)
			}
		}
	case float64:
		n, err := optInt(r, 0, 0, maxTasks)
		if err != nil {
			return at("ranks", err)
		}
		p.Ranks = idset.Of(n).String()
	default:
		return at("ranks", bad("must be a set of task ranks, or all"))
	}
	sh.PTY = p
	return nil
}

// Has tells whether a task has a terminal.
func (p PTY) Has(task int) bool {
	switch p.Ranks {
	case "", "all":
		return p.Ranks != ""
	case "0":
		return task == 0
	}
	set, err := idset.Parse(p.Ranks)
	return err == nil && set.Has(task)
}

// stringMap reads an object of texts.
func stringMap(v any) (map[string]string, error) {
	o, err := asObject(v)
	if err != nil {
		return nil, err
	}
	m := make(map[string]string, len(o))
	for i := range o {
		if m[o[i].key], err = asString(o[i].v); err != nil {
			return nil, at(clip(o[i].key), err)
		}
	}
	return m, nil
}

func verbosity(v any) (int, error) {
	if on, ok := v.(bool); ok {
		if on {
			return 1, nil
		}
		return 0, nil
	}
	return optInt(v, 0, 0, 2)
}
