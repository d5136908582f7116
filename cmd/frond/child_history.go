package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// keepHistory gives what ran in a child instance to its parent, if it is to be seen later and lies here, out of the parent's sight.
func (s *supervisor) keepHistory() {
	c := s.o.child
	if c == nil || !c.History || s.info == nil || !s.info.TempState || !strings.HasPrefix(s.info.StateDir, s.info.RunDir+"/") {
		return
	}
	if err := c.sendHistory(s.info.StateDir); err != nil {
		s.say("what ran here cannot be seen later: %v", err)
	}
}

const (
	historyPiece = 1 << 20          // bytes of one message
	historyLimit = 20 * time.Second // for all of it: the job ends only then
	maxHistory   = 1 << 30          // bytes of all files
)

// stateFiles lists the files of a state directory that is not in use any more, and their bytes.
func stateFiles(dir string) (files []string, size int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Base(path) == "lock" {
			return err
		}
		if fi, err := d.Info(); err == nil {
			size += fi.Size()
		}
		files = append(files, path)
		return nil
	})
	return files, size, err
}

func (c *childStart) sendHistory(dir string) error {
	files, size, err := stateFiles(dir)
	switch {
	case err != nil:
		return err
	case size > maxHistory:
		return fmt.Errorf("it is %d MiB, more than %d", size>>20, maxHistory>>20)
	}
	top := filepath.Join(dir, "store.db") // with it all is there
	files = append(slices.DeleteFunc(files, func(f string) bool { return f == top }), top)
	ctx, cancel := context.WithTimeout(context.Background(), historyLimit)
	defer cancel()
	cl, err := client.Dial(ctx, c.uri, client.WithVersion(version), client.WithReconnect(historyLimit))
	if err != nil {
		return err
	}
	defer cl.Close()
	for _, f := range files {
		if err := c.sendFile(ctx, cl, dir, f); err != nil {
			return err
		}
	}
	return nil
}

func (c *childStart) sendFile(ctx context.Context, cl *client.Client, dir, path string) error {
	id, err := jobspec.ParseID(c.Job)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	req := api.HistoryReq{ID: id, Attempt: c.Attempt, Name: name}
	for buf := make([]byte, historyPiece); ; {
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		req.Data = buf[:n]
		if _, cerr := call(ctx, cl, api.History, wire.Any, req); cerr != nil {
			return cerr
		}
		if err != nil {
			return nil
		}
		req.Offset += int64(n)
	}
}
