package broker

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/overlay/wire"
)

// keptLines is the length of the dmesg ring.
const keptLines = 1024

// brokerService is the service "broker": ping, attributes, log and figures of this process.
type brokerService struct {
	core    *Core
	lines   []api.DmesgLine
	readers map[rpc.RequestKey]*reader
	nread   int
	set     map[string]string // attributes by setattr
}

// reader follows the log.
type reader struct {
	n   int
	req *rpc.Request
}

func newBrokerService(c *Core) *brokerService {
	return &brokerService{core: c, readers: map[rpc.RequestKey]*reader{}, set: map[string]string{}}
}

// Name is "broker".
func (*brokerService) Name() string { return "broker" }

// Handle serves the methods.
func (s *brokerService) Handle(_ time.Time, in any, out *reactor.Out) {
	switch in := in.(type) {
	case *rpc.Request:
		if err := s.request(in, out); err != nil {
			out.Fail(in, err)
		}
	case rpc.Cancel:
		delete(s.readers, in.Key)
	case api.DmesgLine:
		for _, r := range s.inOrder() {
			out.Next(r.req, in)
		}
	}
}

func (s *brokerService) request(r *rpc.Request, out *reactor.Out) error {
	switch r.Topic {
	case api.Ping.Topic:
		req, err := api.Ping.Decode(r)
		if err != nil {
			return err
		}
		out.Reply(r, api.PingRep{Rank: s.core.rank, Pad: req.Pad})
	case api.AttrGet.Topic:
		return s.getattr(r, out)
	case api.AttrList.Topic:
		out.Reply(r, api.AttrListRep{Attrs: s.attrs()})
	case api.AttrSet.Topic:
		return s.setattr(r, out)
	case api.LogAppend.Topic:
		return s.log(r, out)
	case api.Dmesg.Topic:
		return s.dmesg(r, out)
	case api.Stats.Topic:
		out.Reply(r, s.stats())
	default:
		return noMethod(r)
	}
	return nil
}

func (s *brokerService) getattr(r *rpc.Request, out *reactor.Out) error {
	req, err := api.AttrGet.Decode(r)
	if err != nil {
		return err
	}
	v, ok := s.attrs()[req.Name]
	if !ok {
		return wire.Errorf(wire.NotFound, "there is no attribute %q (frond lsattr lists them)", req.Name)
	}
	out.Reply(r, api.AttrRep{Value: v})
	return nil
}

// attrs are the constant attributes and those that follow the tree.
func (s *brokerService) attrs() map[string]string {
	c := s.core
	a := maps.Clone(c.cfg.Attrs)
	if c.rank >= 0 {
		a["rank"] = strconv.Itoa(int(c.rank))
	}
	if n := c.cfg.Overlay.Size; n > 0 {
		a["size"] = strconv.Itoa(n)
	}
	a["broker.uuid"] = c.cfg.Overlay.UUID
	a["tbon.fanout"] = strconv.Itoa(c.cfg.Overlay.Fanout)
	a["tbon.topo"] = "kary:" + strconv.Itoa(c.cfg.Overlay.Fanout)
	if addr := c.cfg.Overlay.Info.Addr; addr != "" {
		a["tbon.endpoint"] = addr
	}
	if id, ok := c.cfg.Machine.Uplink(); ok && c.links[id] != nil {
		a["tbon.parent"] = strconv.Itoa(int(c.links[id].hop.Rank))
	}
	a["tbon.children"] = s.children()
	maps.Copy(a, s.set)
	return a
}

// Limits of what users set and log.
const (
	maxAttrs    = 1000
	maxAttr     = 64 << 10 // bytes of a value
	maxAttrName = 255
	maxLogText  = 4096
)

// setattr sets an attribute that is not one of the broker's own.
func (s *brokerService) setattr(r *rpc.Request, out *reactor.Out) error {
	req, err := api.AttrSet.Decode(r)
	if err != nil {
		return err
	}
	_, known := s.attrs()[req.Name]
	_, own := s.set[req.Name]
	switch {
	case req.Name == "" || len(req.Name) > maxAttrName || strings.ContainsFunc(req.Name, func(c rune) bool { return c <= ' ' || unicode.IsControl(c) }):
		return wire.Errorf(wire.Invalid, "%.80q cannot be the name of an attribute", req.Name)
	case len(req.Value) > maxAttr:
		return wire.Errorf(wire.TooLarge, "an attribute has at most %d bytes, not %d", maxAttr, len(req.Value))
	case known && !own:
		return wire.Errorf(wire.Denied, "attribute %q is the broker's own and cannot be set", req.Name)
	case !own && !req.Create:
		return wire.Errorf(wire.NotFound, "there is no attribute %q (--force makes it)", req.Name)
	case !own && len(s.set) >= maxAttrs:
		return wire.Errorf(wire.TooLarge, "%d attributes have been set, which is the limit", len(s.set))
	}
	s.set[req.Name] = req.Value
	out.Reply(r, api.Empty{})
	return nil
}

// log writes a user's line.
func (s *brokerService) log(r *rpc.Request, out *reactor.Out) error {
	req, err := api.LogAppend.Decode(r)
	switch {
	case err != nil:
		return err
	case len(req.Text)+len(req.App) > maxLogText:
		return wire.Errorf(wire.TooLarge, "a line has at most %d bytes, not %d", maxLogText, len(req.Text)+len(req.App))
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, req.Level):
		return wire.Errorf(wire.Invalid, "%.80q is no level: debug, info, warn or error", req.Level)
	}
	if req.App == "" {
		req.App = "logger"
	}
	s.core.logf(req.Level, oneLine(req.App)+": "+oneLine(req.Text))
	out.Reply(r, api.Empty{})
	return nil
}

// oneLine replaces what would garble a log.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// children lists the ranks of the children, with commas.
func (s *brokerService) children() string {
	var ranks []string
	for _, l := range s.core.children() {
		ranks = append(ranks, strconv.Itoa(int(l.hop.Rank)))
	}
	return strings.Join(ranks, ",")
}

func (s *brokerService) dmesg(r *rpc.Request, out *reactor.Out) error {
	req, err := api.Dmesg.Decode(r)
	if err == nil {
		err = wantStream(r)
	}
	if err != nil {
		return err
	}
	for i := range s.lines {
		if !req.New {
			out.Next(r, s.lines[i])
		}
	}
	if req.Clear {
		s.lines = nil
	}
	if !req.Follow {
		out.End(r)
		return nil
	}
	s.nread++
	s.readers[r.Key()] = &reader{s.nread, r}
	return nil
}

// logLine keeps a line and passes it to those who follow.
func (s *brokerService) logLine(l api.DmesgLine) {
	l.Rank = s.core.rank
	s.lines = append(s.lines, l)
	if len(s.lines) > 2*keptLines {
		s.lines = slices.Clone(s.lines[len(s.lines)-keptLines:])
	}
	if len(s.readers) > 0 {
		s.core.tell("broker", l)
	}
}

func (s *brokerService) inOrder() []*reader {
	return slices.SortedFunc(maps.Values(s.readers), func(a, b *reader) int { return cmp.Compare(a.n, b.n) })
}

func (s *brokerService) stats() api.StatsRep {
	var rep api.StatsRep
	if s.core.cfg.Stats != nil {
		rep = s.core.cfg.Stats()
	}
	rep.Rank, rep.Clients = s.core.rank, len(s.core.clients)
	return rep
}
