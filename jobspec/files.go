package jobspec

import (
	"encoding/base64"
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// File is one that a job brings along (attributes.system.files, Flux RFC 37): it is unpacked into the job's temporary directory on
// each of its nodes.
type File struct {
	Path string // relative, without ".."
	Mode uint32 // permission bits
	Dir  bool
	Link string // target of a symbolic link
	Data []byte
}

// The type bits of a mode.
const (
	modeType = 0o170000
	modeDir  = 0o040000
	modeLink = 0o120000
	modeFile = 0o100000
)

// fillFiles reads an archive: an object keyed by path, or a list of objects with a path.
func (js *Jobspec) fillFiles(v any) error {
	switch x := v.(type) {
	case object:
		for i := range x {
			if err := js.fillFile(x[i].key, x[i].v); err != nil {
				return at(clip(x[i].key), err)
			}
		}
	case []any:
		for _, entry := range x {
			o, err := asObject(entry)
			if err != nil {
				return err
			}
			name, err := asString(o.get("path"))
			if err == nil {
				err = js.fillFile(name, entry)
			}
			if err != nil {
				return at(clip(name), err)
			}
		}
	default:
		return bad("must be an object of files, or a list")
	}
	slices.SortStableFunc(js.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

func (js *Jobspec) fillFile(name string, v any) error {
	o, err := asObject(v)
	if err != nil {
		return err
	}
	if name == "" || name[0] == '/' || path.Clean(name) != name || name == "." || strings.HasPrefix(name+"/", "../") || strings.ContainsRune(name, 0) {
		return bad("must be a relative path without ..")
	}
	mode, err := optInt(o.get("mode"), modeFile|0o600, 0, 0o177777)
	if err != nil {
		return at("mode", err)
	}
	f := File{Path: name, Mode: uint32(mode & 0o777)}
	switch mode & modeType {
	case modeDir:
		f.Dir = true
	case modeLink:
		if f.Link, err = asString(o.get("data")); err == nil && f.Link == "" {
			err = bad("must not be empty")
		}
		err = at("data", err)
	case modeFile, 0:
		f.Data, err = fileData(o)
	default:
		err = at("mode", bad("must be that of a file, a directory or a symbolic link"))
	}
	js.Files = append(js.Files, f)
	return err
}

func fileData(o object) ([]byte, error) {
	encoding, err := optString(o.get("encoding"), "")
	if err != nil {
		return nil, at("encoding", err)
	}
	text, isText := o.get("data").(string)
	switch {
	case encoding == "" && o.get("data") == nil:
		return nil, nil
	case encoding == "":
		data, err := json.Marshal(toMaps(o.get("data")))
		return data, at("data", err)
	case !isText:
		return nil, at("data", bad("must be a text"))
	case encoding == "utf-8":
		return []byte(text), nil
	case encoding == "base64":
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, at("data", bad("is not base64"))
		}
		return data, nil
	}
	return nil, at("encoding", bad("must be utf-8 or base64, not %q", clip(encoding)))
}
