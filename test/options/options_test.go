// Package options compares the options of Flux's verbs with those of Frond's: each is there, or docs/flux-differences.md says why not.
package options

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// options of a verb: each a list of spellings.
type verb struct {
	name    string
	options [][]string
}

// fluxVerbs reads flux.txt.
func fluxVerbs(t *testing.T) []verb {
	data, err := os.ReadFile("flux.txt")
	require.NoError(t, err)
	var verbs []verb
	for line := range strings.Lines(string(data)) {
		name, opts, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		v := verb{name: name}
		for o := range strings.FieldsSeq(opts) {
			v.options = append(v.options, strings.Split(o, ","))
		}
		verbs = append(verbs, v)
	}
	require.Greater(t, len(verbs), 60)
	return verbs
}

// difference is a row of the table in docs/flux-differences.md.
type difference struct {
	options []string // spellings; "*" = the verb
	reason  string
	used    bool
}

var rowRE = regexp.MustCompile("^\\| `([^`]+)` \\| (.*?) \\| (.*) \\|$")

// differences are the rows of the table by verb.
func differences(t *testing.T) map[string][]*difference {
	data, err := os.ReadFile("../../docs/flux-differences.md")
	require.NoError(t, err)
	rows := map[string][]*difference{}
	for line := range strings.Lines(string(data)) {
		m := rowRE.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		opts := strings.FieldsFunc(strings.ReplaceAll(m[2], "`", ""), func(r rune) bool { return r == ' ' || r == ',' })
		rows[m[1]] = append(rows[m[1]], &difference{options: opts, reason: m[3]})
	}
	return rows
}

// help is `frond VERB --help`, empty where there is no such verb.
func help(t *testing.T, name string) string {
	args := append(strings.Fields(name), "--help")
	out, err := exec.Command(filepath.Join(harness.BinDir(), "frond"), args...).Output()
	if err != nil || !regexp.MustCompile(`(?m)^  frond `+regexp.QuoteMeta(name)+`( |$)`).Match(out) {
		return ""
	}
	return string(out)
}

var (
	optionRE  = regexp.MustCompile(`(?m)^ +(?:(-[A-Za-z0-9]), )?(--[a-z0-9][a-z0-9-]*)`)
	shortRE   = regexp.MustCompile(`(?m)^ +(-[A-Za-z0-9])(?: |$)`)
	subverbRE = regexp.MustCompile(`(?m)^  ([a-z][a-z0-9-]*) `)
)

// listed are the spellings of the options in a help text.
func listed(text string) []string {
	var names []string
	for _, m := range optionRE.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1], m[2])
	}
	for _, m := range shortRE.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func TestEveryOptionOfFluxIsThereOrExplained(t *testing.T) {
	rows := differences(t)
	for _, v := range fluxVerbs(t) {
		name, wild := strings.CutSuffix(v.name, " *")
		text := help(t, name)
		if wild {
			_, subs, _ := strings.Cut(text, "Available Commands:")
			for _, m := range subverbRE.FindAllStringSubmatch(subs, -1) {
				text += help(t, name+" "+m[1])
			}
		}
		check(t, v, text, rows[name])
	}
	for name, list := range rows {
		for _, d := range list {
			if !d.used {
				t.Errorf("docs/flux-differences.md: the row for %s %s is not needed", name, strings.Join(d.options, ","))
			}
		}
	}
}

func check(t *testing.T, v verb, text string, rows []*difference) {
	explained := func(spelling string) bool {
		for _, d := range rows {
			if slices.Contains(d.options, spelling) && len(d.reason) > 10 {
				d.used = true
				return true
			}
		}
		return false
	}
	if text == "" {
		if !explained("*") {
			t.Errorf("there is no frond %s, and docs/flux-differences.md does not say why", v.name)
		}
		return
	}
	have := listed(text)
	for _, spellings := range v.options {
		for _, s := range spellings {
			if !slices.Contains(have, s) && !explained(s) {
				t.Errorf("frond %s has no option %s, and docs/flux-differences.md does not say why", v.name, s)
			}
		}
	}
}
