package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/frond-hpc/frond/overlay/boot"
)

// recallFile holds, in a state directory, what jobs that are kept there refer to, as the last start was told it: the next one needs not be told
// again.
const recallFile = "start.json"

// recalled is its content.
type recalled struct {
	Counters   []string `json:"resource,omitempty"`
	Properties []string `json:"property,omitempty"`
}

// recall takes what this start was not told from the state directory, and notes there what it was told. One empty value, --resource=, means none.
func (o *startOptions) recall(info *boot.Info) error {
	told := [2]bool{len(o.counters) > 0, len(o.properties) > 0}
	o.counters, o.properties = notEmpty(o.counters), notEmpty(o.properties)
	if info.TempState {
		return nil
	}
	path := filepath.Join(info.StateDir, recallFile)
	var old recalled
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &old)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--statedir: read %s: %w", path, err)
	}
	if !told[0] {
		o.counters = old.Counters
	}
	if !told[1] {
		o.properties, o.recalled = old.Properties, true
	}
	now := recalled{o.counters, o.properties}
	if slices.Equal(now.Counters, old.Counters) && slices.Equal(now.Properties, old.Properties) {
		return nil
	}
	return writeRecalled(path, now)
}

// writeRecalled writes the file in one step: a start that is killed leaves the old one.
func writeRecalled(path string, r recalled) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(path+".new", append(text, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("--statedir: %w", err)
	}
	return nil
}

// notEmpty is list without empty texts.
func notEmpty(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}
