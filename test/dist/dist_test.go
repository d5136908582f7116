// Package dist_test builds the release and runs it where there is nothing but itself and a C library.
package dist_test

import (
	"archive/tar"
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// newestGlibc is the version of glibc that the release may need at most.
var newestGlibc = [2]int{2, 17}

// ownLibraries are glibc's own; nothing else may be needed.
var ownLibraries = []string{"libc.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6", "libresolv.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}

// release builds the tarball for this machine's architecture and returns the folder it was unpacked to.
func release(t *testing.T) string {
	if os.Getenv("FROND_FULL") == "" {
		t.Skip("takes minutes; FROND_FULL=1 runs it")
	}
	for _, tool := range []string{"cargo", "python3", "make"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing", tool)
			}
			t.Skipf("%s is missing: it fetches sources and compiler", tool)
		}
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	cmd := exec.Command("make", "-C", root, "dist", "ARCHS="+runtime.GOARCH)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	files, err := filepath.Glob(filepath.Join(root, "dist", "frond-*-linux-"+runtime.GOARCH+".tar.gz"))
	require.NoError(t, err)
	require.Len(t, files, 1, "one tarball; are there older ones in dist/?")
	return unpack(t, files[0])
}

// unpack writes a tarball's files into a new folder and returns the one folder in there.
func unpack(t *testing.T, file string) string {
	dir := t.TempDir()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.FileInfo().IsDir() {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, data, h.FileInfo().Mode().Perm()))
	}
	tops, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, tops, 1)
	return tops[0]
}

func TestRelease(t *testing.T) {
	top := release(t)
	binary := filepath.Join(top, "bin", "frond")
	t.Run("it needs an old C library and nothing else", func(t *testing.T) { checkSymbols(t, binary) })
	t.Run("licences, docs, manual pages and completions come with it", func(t *testing.T) {
		for _, name := range []string{"doc/frond/LICENSE", "doc/frond/README.md", "doc/frond/licences/libzmq", "doc/frond/licences/libsodium",
			"man/man1/frond-submit.1", "bash-completion/completions/frond", "zsh/site-functions/_frond", "fish/vendor_completions.d/frond.fish"} {
			require.FileExists(t, filepath.Join(top, "share", name))
		}
	})
	if os.Geteuid() != 0 {
		t.Skip("the rest needs root: chroot")
	}
	t.Run("it runs an instance in an empty root", func(t *testing.T) { runInEmptyRoot(t, binary) })
	t.Run("the documentation's examples run with it in a bare root", func(t *testing.T) { runDocs(t, binary) })
}

func checkSymbols(t *testing.T, binary string) {
	f, err := elf.Open(binary)
	require.NoError(t, err)
	defer f.Close()
	libs, err := f.ImportedLibraries()
	require.NoError(t, err)
	for _, lib := range libs {
		require.Contains(t, ownLibraries, lib)
	}
	symbols, err := f.ImportedSymbols()
	require.NoError(t, err)
	require.NotEmpty(t, symbols)
	for _, s := range symbols {
		version, found := strings.CutPrefix(s.Version, "GLIBC_")
		if !found {
			require.Empty(t, s.Version, "symbol %s", s.Name)
			continue
		}
		require.False(t, laterThan(t, version, newestGlibc), "symbol %s needs glibc %s", s.Name, version)
	}
}

// laterThan compares a version such as 2.2.5 with one of two parts.
func laterThan(t *testing.T, version string, limit [2]int) bool {
	parts := strings.Split(version, ".")
	require.GreaterOrEqual(t, len(parts), 2)
	major, err := strconv.Atoi(parts[0])
	require.NoError(t, err)
	minor, err := strconv.Atoi(parts[1])
	require.NoError(t, err)
	return slices.Compare([]int{major, minor}, limit[:]) > 0
}

// root is a root directory for chroot, with files of this host's.
type root string

// newRoot makes one with the files named, what the loader finds for those that are programs, and places for /proc, /dev and /tmp.
func newRoot(t *testing.T, binary string, programs ...string) root {
	r := root(t.TempDir())
	for _, dir := range []string{"proc", "dev", "tmp", "root", "bin"} {
		require.NoError(t, os.Mkdir(filepath.Join(string(r), dir), 0o755))
	}
	copyFile(t, binary, filepath.Join(string(r), "bin", "frond"))
	files := libraries(t, binary)
	for _, name := range programs {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		copyFile(t, path, filepath.Join(string(r), "bin", name))
		files = append(files, libraries(t, path)...)
	}
	for _, file := range files {
		copyFile(t, file, filepath.Join(string(r), file))
	}
	return r
}

// mountScript makes the file systems of a root and changes into it; the mounts end with the name space. Of devices there are the null and
// zero ones, random numbers and terminals.
const mountScript = `set -e; root=$1; shift
mount -t proc proc "$root/proc"; mount -t tmpfs dev "$root/dev"; mount -t tmpfs tmp "$root/tmp"
mknod -m 666 "$root/dev/null" c 1 3; mknod -m 666 "$root/dev/zero" c 1 5; mknod -m 666 "$root/dev/urandom" c 1 9; mknod -m 666 "$root/dev/tty" c 5 0
mkdir "$root/dev/pts" "$root/dev/shm"; mount -t devpts -o newinstance,ptmxmode=0666 pts "$root/dev/pts"; ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
exec chroot "$root" "$@"`

// run runs a command in the root, with processes and mounts of its own.
func (r root) run(environ []string, args ...string) (string, error) {
	cmd := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mountScript, "sh", string(r)}, args...)...)
	cmd.Env = append([]string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin", "HOME=/root"}, environ...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// runInEmptyRoot starts an instance where there are only the binary and the C library.
func runInEmptyRoot(t *testing.T, binary string) {
	r := newRoot(t, binary)
	for _, args := range [][]string{
		{"frond", "version"},
		{"frond", "start", "-n", "4", "--", "frond", "run", "-N4", "-n4", "frond", "version"},
	} {
		out, err := r.run(nil, args...)
		require.NoError(t, err, out)
		require.NotEmpty(t, out)
	}
	state := []string{"frond", "start", "--statedir", "/root/state", "--", "frond"}
	out, err := r.run(nil, append(state, "submit", "--cc=1-100", "--wait", "--quiet", "frond", "version")...)
	require.NoError(t, err, out)
	out, err = r.run(nil, append(state, "jobs", "-a", "-n", "-o", "{status_abbrev}")...)
	require.NoError(t, err, out)
	require.Equal(t, strings.Repeat("CD\n", 100), out)
}

// docsPrograms are what the documentation's examples use besides frond and the shell's own commands.
var docsPrograms = []string{"bash", "sh", "awk", "basename", "cat", "chmod", "cmp", "comm", "cp", "cut", "diff", "date", "dirname", "echo", "env", "false", "find", "grep", "head", "hostname", "id", "join",
	"ls", "mkdir", "mktemp", "mv", "nproc", "printf", "pwd", "rm", "paste", "sed", "seq", "shuf", "sleep", "sort", "stat", "stty", "tail", "taskset", "tee", "test", "timeout", "touch", "tr", "true", "uname", "uniq", "wc", "xargs"}

// runDocs runs the tests of package test/docs, on the pages that came with the release, in a root with the binary and the usual
// programs of a shell: what a new user of a container has.
func runDocs(t *testing.T, binary string) {
	r := newRoot(t, binary, docsPrograms...)
	doc := filepath.Join(filepath.Dir(filepath.Dir(binary)), "share", "doc", "frond")
	cmd := exec.Command("go", "test", "-c", "-o", filepath.Join(string(r), "src", "test", "docs", "docs.test"), "../docs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	pages, err := filepath.Glob(filepath.Join(doc, "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	for _, page := range pages {
		to := filepath.Join(string(r), "src", "docs", filepath.Base(page))
		if filepath.Base(page) == "README.md" {
			to = filepath.Join(string(r), "src", "README.md")
		}
		copyFile(t, page, to)
	}
	// The locale is what a container has: sed and others need it to count characters.
	if out, err := exec.Command("cp", "-r", "--parents", "/usr/lib/locale/C.utf8", string(r)).CombinedOutput(); err != nil {
		t.Logf("no UTF-8 locale: %s", out)
	}
	text, err := r.run([]string{"FROND_TEST_BIN=/bin", "TMPDIR=/tmp"}, "bash", "-c", "cd /src/test/docs && exec ./docs.test -test.v -test.run '^TestExamples$'")
	require.NoError(t, err, text)
	require.Contains(t, text, "--- PASS: TestExamples")
}

// libraries are the files that the loader finds for a binary, itself included.
func libraries(t *testing.T, binary string) []string {
	out, err := exec.Command("ldd", binary).Output()
	require.NoError(t, err)
	var files []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			files = append(files, word)
		}
	}
	return files
}

func copyFile(t *testing.T, from, to string) {
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(t, os.WriteFile(to, data, 0o755))
}
