// Package arch makes the rules of the house a test: who may import whom, which packages are pure, sizes and comments.
// The rules stand in rules_test.go.
package arch

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// load parses every Go file of the module.
func load(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	var files []source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasPrefix(d.Name(), "_") || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		s, err := parse(filepath.ToSlash(filepath.Dir(rel)), path, nil)
		s.file = filepath.ToSlash(rel)
		files = append(files, s)
		return err
	})
	require.NoError(t, err)
	return files
}

func TestTheHouseRulesHold(t *testing.T) {
	files := load(t)
	require.Greater(t, len(files), 20, "the walk found the module")
	findings := checkPackageComments(files)
	for _, s := range files {
		findings = append(findings, check(s)...)
	}
	used := map[string]bool{}
	var lines []string
	for _, f := range findings {
		if exceptions[f.key()] != "" {
			used[f.key()] = true
			continue
		}
		lines = append(lines, f.text+"   (exception: "+f.key()+")")
	}
	for key := range exceptions {
		if !used[key] {
			lines = append(lines, "exception "+key+" is not needed any more: remove it")
		}
	}
	slices.Sort(lines)
	if len(lines) > 0 {
		t.Fatalf("%d rules broken:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}

// TestEachRuleCanFail plants one fault for each rule.
func TestEachRuleCanFail(t *testing.T) {
	long := strings.Repeat("\n", maxFunc)
	for name, c := range map[string]struct{ pkg, text, want string }{
		"a package without a row":        {"newthing", `package newthing`, "imports newthing"},
		"an import against the order":    {"jobspec", `package jobspec; import _ "github.com/frond-hpc/frond/resource"`, "imports jobspec resource"},
		"a service imports another":      {"broker/jobsvc", `package jobsvc; import _ "github.com/frond-hpc/frond/broker/schedsvc"`, "imports broker/jobsvc broker/schedsvc"},
		"sched imports exec":             {"sched/easy", `package easy; import _ "github.com/frond-hpc/frond/exec"`, "imports sched/easy exec"},
		"someone imports cmd":            {"client", `package client; import _ "github.com/frond-hpc/frond/cmd/frond"`, "imports client cmd/frond"},
		"zmq4 outside overlay/zmq":       {"overlay/mem", `package mem; import _ "github.com/pebbe/zmq4"`, "imports overlay/mem github.com/pebbe/zmq4"},
		"sqlite3 outside broker/store":   {"broker/store/mem", `package mem; import _ "github.com/mattn/go-sqlite3"`, "imports broker/store/mem github.com/mattn/go-sqlite3"},
		"a pure package imports os/exec": {"sched", `package sched; import _ "os/exec"`, "purity sched os/exec"},
		"a pure package reads the clock": {"jobspec", `package jobspec; import "time"; var x = time.Now()`, "purity jobspec"},
		"a pure package has a channel":   {"jobspec", `package jobspec; var c chan int`, "purity jobspec"},
		"a pure package receives":        {"jobspec", `package jobspec; func f() { <-g() }`, "purity jobspec"},
		"a pure package has a goroutine": {"overlay/wire", `package wire; func f() { go f() }`, "go overlay/wire"},
		"a goroutine where none may be":  {"resource/probe", `package probe; func f() { go f() }`, "go resource/probe"},
		"a file too long":                {"jobspec", "package jobspec" + strings.Repeat("\n", maxFile+1), "file x.go"},
		"a function too long":            {"jobspec", "package jobspec; func f() {" + long + "}", "func jobspec.f"},
		"an exported name without doc":   {"jobspec", `package jobspec; func F() {}`, "doc jobspec.F"},
		"an exported type without doc":   {"jobspec", `package jobspec; type T int`, "doc jobspec.T"},
	} {
		s, err := parse(c.pkg, "x.go", c.text)
		require.NoError(t, err, name)
		var keys []string
		for _, f := range check(s) {
			keys = append(keys, f.key())
		}
		require.Contains(t, keys, c.want, name)
	}
	s, err := parse("jobspec", "x.go", "package jobspec")
	require.NoError(t, err)
	require.Len(t, checkPackageComments([]source{s}), 1)
}

func TestCodeWithinTheRulesHasNoFindings(t *testing.T) {
	s, err := parse("sched", "x.go", `// Package sched is fine.
package sched

import (
	"time"

	"github.com/frond-hpc/frond/jobspec"
)

// F adds a second.
func F(t time.Time, _ *jobspec.Jobspec) time.Time { return t.Add(time.Second) }
`)
	require.NoError(t, err)
	require.Empty(t, check(s))
	require.Empty(t, checkPackageComments([]source{s}))
}
