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
	t.Run("licences and docs come with it", func(t *testing.T) {
		for _, name := range []string{"LICENSE", "README.md", "licences/libzmq", "licences/libsodium"} {
			require.FileExists(t, filepath.Join(top, "share", "doc", "frond", name))
		}
	})
	t.Run("it runs an instance in an empty root", func(t *testing.T) { runInEmptyRoot(t, binary) })
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

// runInEmptyRoot starts an instance in a root directory that holds the binary, the C library, and an empty /proc, /dev and /tmp.
func runInEmptyRoot(t *testing.T, binary string) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := t.TempDir()
	copyFile(t, binary, filepath.Join(root, "bin", "frond"))
	for _, lib := range libraries(t, binary) {
		copyFile(t, lib, filepath.Join(root, lib))
	}
	for _, dir := range []string{"proc", "dev", "tmp", "root"} {
		require.NoError(t, os.Mkdir(filepath.Join(root, dir), 0o755))
	}
	// /dev/null is all that is needed of /dev; the mounts end with the name space.
	script := `mount -t proc proc "$1/proc" && mount -t tmpfs dev "$1/dev" && mknod -m 666 "$1/dev/null" c 1 3 && root=$1 && shift && exec chroot "$root" "$@"`
	frond := func(args ...string) (string, error) {
		cmd := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", root}, args...)...)
		cmd.Env = []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin", "HOME=/root"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := frond("frond", "version")
	require.NoError(t, err, out)
	out, err = frond("frond", "start", "-n", "4", "--", "frond", "run", "-N4", "-n4", "frond", "version")
	require.NoError(t, err, out)
	require.GreaterOrEqual(t, strings.Count(out, "\n"), 4, out)
	out, err = frond("frond", "start", "--statedir", "/tmp/state", "--", "frond", "submit", "--cc=1-100", "--wait", "--quiet", "frond", "version")
	require.NoError(t, err, out)
	out, err = frond("frond", "start", "--recover", "--statedir", "/tmp/state", "--", "frond", "jobs", "-a", "-n", "-o", "{status_abbrev}")
	require.NoError(t, err, out)
	require.Equal(t, strings.Repeat("CD\n", 100), out)
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
