package proc

import (
	"os"
	"path/filepath"

	"github.com/frond-hpc/frond/jobspec"
)

// unpack writes the files that a job brings along into its temporary directory. They are sorted by path, so that a directory comes
// before what is in it; one that is not among them is made, too.
func unpack(dir string, files []jobspec.File) error {
	root, err := os.OpenRoot(dir) // a symbolic link among the files leads nowhere else
	if err != nil {
		return err
	}
	defer root.Close()
	for i := range files {
		if err := unpackOne(root, &files[i]); err != nil {
			return naming("the job's file", err)
		}
	}
	for i := len(files) - 1; i >= 0; i-- { // those of directories last: they may forbid writing
		if f := &files[i]; f.Dir {
			if err := root.Chmod(f.Path, os.FileMode(f.Mode)); err != nil {
				return naming("the job's directory", err)
			}
		}
	}
	return nil
}

func unpackOne(root *os.Root, f *jobspec.File) error {
	if err := root.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return err
	}
	switch {
	case f.Dir:
		return root.MkdirAll(f.Path, 0o700)
	case f.Link != "":
		return root.Symlink(f.Link, f.Path)
	}
	if err := root.WriteFile(f.Path, f.Data, 0o600); err != nil {
		return err
	}
	return root.Chmod(f.Path, os.FileMode(f.Mode))
}
