package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
)

// addParams appends an item of item.N elements whose parameters lists gives, in order, each time it is ranged over: {{param.0}} and so on in
// the command and in file names of o, or with the command {{argv}} the command itself.
func (b *batch) addParams(o *submitOptions, environ []string, item api.SubmitItem, lists iter.Seq[[]string]) error {
	if b.params == nil {
		b.params = make(map[int]iter.Seq[[]string])
	}
	item.Params = true
	b.params[len(b.items)] = lists
	return b.add(o, environ, item, nil)
}

// Limits of one call that uploads parameters.
const (
	uploadLists = 16384
	uploadBytes = 2 << 20
)

// uploadParams uploads the parameters of n items from the first on, which will be submitted with token.
func (b *batch) uploadParams(ctx context.Context, c *client.Client, token string, first, n int) error {
	for i := range n {
		item := &b.items[first+i]
		if !item.Params {
			continue
		}
		up := &uploader{ctx: ctx, c: c, req: api.ParamsReq{Token: token, Item: i}}
		for list := range b.params[first+i] {
			if up.add(list) != nil {
				break
			}
		}
		if up.send(); up.err != nil {
			return up.err
		}
		if want := max(item.N, 1); up.req.First != want {
			return fmt.Errorf("there are parameters for %d elements of an array of %d", up.req.First, want)
		}
	}
	return nil
}

// uploader sends the parameters of one item, part by part.
type uploader struct {
	ctx  context.Context
	c    *client.Client
	req  api.ParamsReq
	size int
	err  error
}

func (u *uploader) add(list []string) error {
	u.req.Params = append(u.req.Params, list)
	for _, p := range list {
		u.size += len(p) + 1
	}
	if len(u.req.Params) >= uploadLists || u.size >= uploadBytes {
		u.send()
	}
	return u.err
}

func (u *uploader) send() {
	if u.err != nil || len(u.req.Params) == 0 {
		return
	}
	_, u.err = client.Call(u.ctx, u.c, api.Params, u.req)
	u.req.First += len(u.req.Params)
	u.req.Params, u.size = u.req.Params[:0], 0
}
