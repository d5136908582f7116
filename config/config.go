// Package config reads Frond's configuration files: TOML, with keys that are known beforehand, each value with the place where it
// stands. Later files go before earlier ones, key by key.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// Version is the newest version of the format that is understood. A file says `version = N` if it needs one.
const Version = 1

// Key is one setting that a file may have.
type Key struct {
	Name    string             // dotted, as start.brokers
	Doc     string             // one sentence
	Default string             // what counts without a file; for show
	List    bool               // it may have several values
	Table   bool               // it is a table whose keys are the user's: Name.KEY[.KEY]…
	Check   func(string) error // of a value as text; nil = any
}

// Value is what a file says for a key.
type Value struct {
	Texts []string // one, or those of a list
	Place Place
}

// Text is a value as one string; of a list its parts with commas between them.
func (v Value) Text() string { return strings.Join(v.Texts, ",") }

// Place is where a value stands.
type Place struct {
	File string
	Line int
}

// String writes it as compilers do.
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Config holds what the files said, by key. Keys of a table have their full names.
type Config map[string]Value

// Names are its keys in order.
func (c Config) Names() []string {
	var names []string
	for n := range c {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// File is one file to read.
type File struct {
	Path string
	Must bool // it has to be there
}

// Read reads files, the least important first. An unknown key, a value that is none for its key, and a file of a newer version are
// errors that name file and line. keys is called only if there is a file.
func Read(files []File, keys func() []Key) (Config, error) {
	c := Config{}
	var known []Key
	for _, f := range files {
		data, err := os.ReadFile(f.Path)
		if errors.Is(err, fs.ErrNotExist) && !f.Must {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if known == nil {
			known = keys()
		}
		if err := c.add(f.Path, string(data), known); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// add takes one file.
func (c Config) add(path, text string, keys []Key) error {
	var top map[string]toml.Primitive
	md, err := toml.Decode(text, &top)
	if err != nil {
		var bad toml.ParseError
		if errors.As(err, &bad) {
			return fmt.Errorf("%s: %s", Place{path, bad.Position.Line}, bad.Message)
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	r := &reader{config: c, path: path, md: &md, keys: map[string]Key{}}
	for _, k := range keys {
		r.keys[k.Name] = k
	}
	if v, ok := top["version"]; ok {
		if err := r.version(v); err != nil {
			return err
		}
		delete(top, "version")
	}
	return r.table("", top)
}

// reader takes one file apart.
type reader struct {
	config Config
	path   string
	md     *toml.MetaData
	keys   map[string]Key
}

// errPlace is how the library is made to say where a value stands: it tells the place of a value that refuses itself.
var errPlace = errors.New("place")

type refusing struct{}

func (refusing) UnmarshalTOML(any) error { return errPlace }

func (r *reader) place(v toml.Primitive) Place {
	p := Place{File: r.path}
	var at toml.ParseError
	if errors.As(r.md.PrimitiveDecode(v, &refusing{}), &at) {
		p.Line = at.Position.Line
	}
	return p
}

func (r *reader) version(v toml.Primitive) error {
	var n int
	if err := r.md.PrimitiveDecode(v, &n); err != nil || n < 1 {
		return fmt.Errorf("%s: version must be a whole number from 1 on", r.place(v))
	}
	if n > Version {
		return fmt.Errorf("%s: this file has version %d, and this frond knows versions up to %d: use a newer frond, or a file for this one", r.place(v), n, Version)
	}
	return nil
}

// table takes the keys below prefix.
func (r *reader) table(prefix string, values map[string]toml.Primitive) error {
	names := make([]string, 0, len(values))
	for n := range values {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := r.value(prefix+n, values[n]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) value(name string, v toml.Primitive) error {
	var raw any
	if err := r.md.PrimitiveDecode(v, &raw); err != nil {
		return fmt.Errorf("%s: %w", r.place(v), err)
	}
	k, known := r.key(name)
	if _, is := raw.(map[string]any); is && (!known || k.Table) && r.inside(name) {
		var sub map[string]toml.Primitive
		if err := r.md.PrimitiveDecode(v, &sub); err != nil {
			return fmt.Errorf("%s: %w", r.place(v), err)
		}
		return r.table(name+".", sub)
	}
	if !known || k.Table && k.Name == name {
		return fmt.Errorf("%s: unknown key %s%s", r.place(v), strings.Trim(strconv.Quote(name), `"`), r.hint(name))
	}
	texts, err := texts(raw, k.List)
	for i := 0; i < len(texts) && err == nil && k.Check != nil; i++ {
		err = k.Check(texts[i])
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", r.place(v), name, err)
	}
	r.config[name] = Value{Texts: texts, Place: r.place(v)}
	return nil
}

// key finds the key that a name stands for: itself, or the table in which it lies.
func (r *reader) key(name string) (Key, bool) {
	if k, ok := r.keys[name]; ok {
		return k, true
	}
	for _, k := range r.keys {
		if k.Table && strings.HasPrefix(name, k.Name+".") {
			return k, true
		}
	}
	return Key{}, false
}

// inside tells whether keys can lie below name.
func (r *reader) inside(name string) bool {
	for _, k := range r.keys {
		if strings.HasPrefix(k.Name, name+".") || k.Table && (k.Name == name || strings.HasPrefix(name, k.Name+".")) {
			return true
		}
	}
	return false
}

// hint names a key that may be meant.
func (r *reader) hint(name string) string {
	best, least := "", 4
	for n := range r.keys {
		if d := Distance(n, name); d < least || d == least && n < best {
			best, least = n, d
		}
	}
	if best == "" {
		return " ('frond config show' lists the keys)"
	}
	return ": is " + best + " meant?"
}

// texts are a value's as text.
func texts(raw any, list bool) ([]string, error) {
	switch v := raw.(type) {
	case string:
		return []string{v}, nil
	case int64:
		return []string{strconv.FormatInt(v, 10)}, nil
	case float64:
		return []string{strconv.FormatFloat(v, 'g', -1, 64)}, nil
	case bool:
		return []string{strconv.FormatBool(v)}, nil
	case []any:
		if !list {
			return nil, errors.New("one value is wanted, not a list")
		}
		out := []string{}
		for _, e := range v {
			t, err := texts(e, false)
			if err != nil {
				return nil, err
			}
			out = append(out, t...)
		}
		return out, nil
	}
	return nil, errors.New("a text, a number, true or false is wanted")
}

// Distance is the number of letters to insert, remove, replace or swap with the next to make b of a (Damerau, Levenshtein).
func Distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
