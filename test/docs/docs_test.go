// Package docs runs the shell examples of the documentation: every fenced block marked sh in README.md and docs/*.md, in order, each page
// in a shell and a directory of its own. A block marked text right behind one shows its output, in which … stands for anything: in a line
// for characters, alone on a line for lines.
package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/frond-hpc/frond/test/harness"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// example is one block of commands.
type example struct {
	line   int // in the page
	script string
	output string // expected; "" with shown false = not shown
	shown  bool
}

// examples takes the blocks out of a page.
func examples(text string) []example {
	var list []example
	lines := strings.Split(text, "\n")
	after := false // an sh block has just ended
	for i := 0; i < len(lines); i++ {
		kind, fence := strings.CutPrefix(lines[i], "```")
		if !fence {
			if strings.TrimSpace(lines[i]) != "" {
				after = false
			}
			continue
		}
		start := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		body := strings.Join(lines[start:min(i, len(lines))], "\n")
		switch {
		case kind == "sh":
			list = append(list, example{line: start, script: body})
		case kind == "text" && after:
			list[len(list)-1].output, list[len(list)-1].shown = body, true
		}
		after = kind == "sh"
	}
	return list
}

// expression is an output with … as a regular expression.
func expression(output string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`\A`)
	for line := range strings.SplitSeq(strings.TrimRight(output, "\n"), "\n") {
		if strings.TrimSpace(line) == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		words := strings.Fields(line) // blanks are layout
		b.WriteString(`[ \t]*`)
		for i, w := range words {
			if i > 0 {
				b.WriteString(`\s+`)
			}
			b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(w), "…", `.*?`))
		}
		b.WriteString(`[ \t]*\n`)
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String())
}

const mark = "@@ example "

// script is a page's examples as one, which says where each begins.
func script(list []example) string {
	var b strings.Builder
	b.WriteString("exec 2>&1\nset -eu -o pipefail\n")
	for i, e := range list {
		fmt.Fprintf(&b, "echo; echo '%s%d'\n%s\n", mark, i, e.script)
	}
	fmt.Fprintf(&b, "echo; echo '%s%d'\n", mark, len(list))
	return b.String()
}

func TestExamples(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	pages = append(pages, "../../README.md")
	for _, page := range pages {
		data, err := os.ReadFile(page)
		require.NoError(t, err)
		list := examples(string(data))
		if len(list) > 0 {
			t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) { run(t, page, list) })
		}
	}
}

// patience is how long a page may take.
const patience = 3 * time.Minute

func run(t *testing.T, page string, list []example) {
	dir, err := os.MkdirTemp("", "fd")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(func() { harness.KillAll(dir) })
	work := filepath.Join(dir, "work")
	require.NoError(t, os.Mkdir(work, 0o755))
	cmd := exec.Command("bash", "--norc", "-c", script(list))
	cmd.Dir, cmd.Env = work, append(harness.Environ(dir), "LANG=C.UTF-8", "LC_ALL=C.UTF-8")
	cmd.WaitDelay = time.Second
	timer := time.AfterFunc(patience, func() { harness.KillAll(dir) })
	out, err := cmd.CombinedOutput()
	timer.Stop()
	parts := regexp.MustCompile(`(?m)^\n?`+regexp.QuoteMeta(mark)+`\d+\n`).Split(string(out), -1)
	last := len(parts) - 2 // the example that was reached, or behind the last
	if err != nil || last != len(list) {
		at := max(0, min(last, len(list)-1))
		t.Fatalf("%s:%d: the example fails: %v\n%s\n--- its output:\n%s", page, list[at].line, err, list[at].script, parts[len(parts)-1])
	}
	for i, e := range list {
		got := strings.TrimSuffix(parts[i+1], "\n")
		if got != "" && !strings.HasSuffix(got, "\n") {
			got += "\n"
		}
		if e.shown && !expression(e.output).MatchString(got) {
			t.Errorf("%s:%d: the output is not what the page shows.\n--- shown:\n%s\n--- is:\n%s", page, e.line, e.output, got)
		}
	}
}

func TestExpression(t *testing.T) {
	for _, row := range []struct {
		shown, output string
		want          bool
	}{
		{"a\nb", "a\nb\n", true},
		{"a\nb", "a\n", false},
		{"a b", "a    b\n", true},
		{"a … c", "a  x y z c\n", true},
		{"ƒ…", "ƒ3LRW\n", true},
		{"a\n…\nz", "a\nm\nn\nz\n", true},
		{"a\n…", "a\n", true},
		{"…\nz", "y\n", false},
		{"", "\n", true},
	} {
		require.Equal(t, row.want, expression(row.shown).MatchString(row.output), "%q %q", row.shown, row.output)
	}
	got := examples("x\n```sh\nfrond jobs\n```\n\n```text\nout\n```\n```sh\ntrue\n```\nwords\n```text\nno\n```\n")
	require.Equal(t, []example{{line: 2, script: "frond jobs", output: "out", shown: true}, {line: 9, script: "true"}}, got)
}
