package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/frond-hpc/frond/jobspec"
)

// maxAddedFiles bounds what --add-file reads: a jobspec that is larger is refused anyway.
const maxAddedFiles = jobspec.MaxBytes

// addedFiles are the files of --add-file=[NAME=]PATH as attributes.system.files (RFC 37): they travel in the jobspec and are
// unpacked below {{tmpdir}}. A PATH with a line break in it is the file's content itself, as in Flux.
func addedFiles(options []string) (map[string]any, error) {
	files := map[string]any{}
	size := 0
	for _, opt := range options {
		name, data, mode, err := addedFile(opt)
		if err != nil {
			return nil, fmt.Errorf("--add-file=%s: %w", strings.SplitN(opt, "\n", 2)[0], err)
		}
		if size += len(data); size > maxAddedFiles {
			return nil, fmt.Errorf("--add-file=%s: together more than %d bytes, which a jobspec cannot hold", opt, maxAddedFiles)
		}
		files[name] = fileEntry(data, mode)
	}
	return files, nil
}

func fileEntry(data []byte, mode uint32) map[string]any {
	entry := map[string]any{"mode": int64(mode), "size": int64(len(data)), "encoding": "utf-8", "data": string(data)}
	if !utf8.Valid(data) {
		entry["encoding"], entry["data"] = "base64", base64.StdEncoding.EncodeToString(data)
	}
	return entry
}

// regular is the type of a plain file in a mode (st_mode).
const regular = 0o100000

func addedFile(opt string) (name string, data []byte, mode uint32, err error) {
	name, path, named := strings.Cut(opt, "=")
	if strings.Contains(name, "\n") || !named {
		name, path, named = "", opt, false
	}
	if strings.Contains(path, "\n") {
		if name == "" {
			return "", nil, 0, errors.New("content needs a name: NAME=CONTENT")
		}
		return name, []byte(path), regular | 0o600, nil
	}
	if name == "" {
		name = filepath.Base(path)
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return "", nil, 0, err
	case !st.Mode().IsRegular():
		return "", nil, 0, errors.New("is no plain file")
	case st.Size() > maxAddedFiles:
		return "", nil, 0, fmt.Errorf("is %d bytes long; a jobspec holds at most %d", st.Size(), maxAddedFiles)
	}
	data, err = os.ReadFile(path)
	return name, data, regular | uint32(st.Mode().Perm()), err
}

// envTemplates are the variables that --env=NAME=VALUE gives a value with {{…}}: each task gets its own.
func envTemplates(rules []string) (options []string) {
	for _, rule := range rules {
		name, value, ok := strings.Cut(rule, "=")
		if ok && strings.Contains(value, "{{") && name != "" && !strings.ContainsAny(name[:1], "-^") && !strings.Contains(name, ".") {
			options = append(options, "env-expand."+rule)
		}
	}
	return options
}
