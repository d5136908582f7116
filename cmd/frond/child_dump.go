package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// dumpName is the file of --dump without a name.
const dumpName = "frond-{{id}}-dump.tgz"

// checkDump refuses names that do not say what kind of archive is meant.
func checkDump(path string) error {
	if path == "" || strings.HasSuffix(path, ".tar") || gzipped(path) {
		return nil
	}
	return fmt.Errorf("--dump=%s: the name must end in .tgz, .tar.gz or .tar", path)
}

func gzipped(path string) bool {
	return strings.HasSuffix(path, ".tgz") || strings.HasSuffix(path, ".tar.gz")
}

// dump leaves an archive of what the instance knows at its end, if one was asked for.
func (s *supervisor) dump() {
	if s.o.dump == "" || s.info == nil {
		return
	}
	if err := writeDump(s.o.dump, s.info.StateDir); err != nil {
		s.say("--dump: %v", err)
	}
}

// writeDump archives the files of a state directory. The file has its name when all of it is there.
func writeDump(path, dir string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	var w io.WriteCloser = f
	if gzipped(path) {
		w = gzip.NewWriter(f)
	}
	t := tar.NewWriter(w)
	files, _, err := stateFiles(dir)
	for _, at := range files {
		if err == nil {
			err = addToDump(t, dir, at)
		}
	}
	err = errors.Join(err, t.Close())
	if w != f {
		err = errors.Join(err, w.Close())
	}
	return err
}

func addToDump(t *tar.Writer, dir, at string) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(fi, "")
	if err != nil {
		return err
	}
	if h.Name, err = filepath.Rel(dir, at); err != nil {
		return err
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(t, f, h.Size)
	return err
}
