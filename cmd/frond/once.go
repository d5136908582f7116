package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/overlay/wire"
)

// maxKey bounds a key of --once.
const maxKey = 200

func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("--once: the key is empty")
	case len(key) > maxKey:
		return fmt.Errorf("--once: the key has %d bytes; the limit is %d", len(key), maxKey)
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("--once: the key %q holds control characters", key)
	}
	return nil
}

// onceToken is the token of the request that begins with the n-th item of a submission under a key.
func onceToken(key string, n int) string { return fmt.Sprintf("once:%d:%s", n, key) }

// content is what has to be the same of an item for a submission under the same key to be the same: its jobspec without the environment,
// without limits that were passed on from this process, and without the time that begin-time=+1h came to.
func (o *submitOptions) content(spec jobspec.Options) ([]byte, error) {
	if len(o.rlimit) == 0 {
		spec.RLimit = nil
	}
	text, err := jobspec.BuildJSON(spec)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	attrs, _ := doc["attributes"].(map[string]any)
	system, _ := attrs["system"].(map[string]any)
	deps, _ := system["dependencies"].([]any)
	for _, d := range deps {
		if d, ok := d.(map[string]any); ok && d["scheme"] == "begin-time" {
			delete(d, "value")
		}
	}
	return json.Marshal(doc)
}

// digest is the item's Digest: equal for equal content, number of items, elements and parameters.
func (b *batch) digest(i int) string {
	h := sha256.New()
	it := &b.items[i]
	fmt.Fprintf(h, "%d %d %q %v %d ", len(b.items), max(it.N, 1), it.CC, it.BCC, len(b.content[i]))
	h.Write(b.content[i])
	if lists := b.params[i]; lists != nil {
		for list := range lists {
			fmt.Fprintf(h, "%d:", len(list))
			for _, p := range list {
				fmt.Fprintf(h, "%d:", len(p))
				io.WriteString(h, p)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// asOnce makes a request, of items from the first on, part of a submission under the batch's key. If the key was used before for the same it returns the ids.
func (b *batch) asOnce(ctx context.Context, c *client.Client, req *api.SubmitReq, first int) ([]jobspec.ID, error) {
	req.Token, req.Uploads, req.Once = onceToken(b.once, first), rand.Text(), b.once
	for i := range req.Items {
		req.Items[i].Digest, req.Items[i].Name = b.digest(first+i), b.names[first+i]
	}
	probe := api.SubmitReq{Token: req.Token, Once: req.Once, Probe: true, Items: make([]api.SubmitItem, len(req.Items))}
	for i := range req.Items {
		probe.Items[i] = api.SubmitItem{Digest: req.Items[i].Digest, Name: req.Items[i].Name, N: req.Items[i].N}
	}
	rep, err := client.Call(ctx, c, api.Submit, probe)
	var e *wire.Error
	if errors.As(err, &e) && e.Code == wire.NotFound {
		return nil, nil
	}
	return rep.IDs, err
}
