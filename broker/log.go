package broker

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/broker/reactor"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// teeRing makes a logger that writes to log (nil = nowhere) and gives info and above to ring.
func teeRing(log *zap.Logger, ring func(LogLine)) *zap.Logger {
	if log == nil {
		log = zap.NewNop()
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, &ringCore{ring: ring})
	}))
}

// ringCore is a zapcore.Core that makes dmesg lines.
type ringCore struct {
	ring   func(LogLine)
	fields []zapcore.Field
}

// Enabled takes info and above.
func (*ringCore) Enabled(l zapcore.Level) bool { return l >= zapcore.InfoLevel }

// With adds fields.
func (r *ringCore) With(fields []zapcore.Field) zapcore.Core {
	return &ringCore{r.ring, append(r.fields[:len(r.fields):len(r.fields)], fields...)}
}

// Check adds r to the cores that write the entry.
func (r *ringCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if r.Enabled(e.Level) {
		return ce.AddCore(e, r)
	}
	return ce
}

// Write makes "service: message key=value …" of an entry.
func (r *ringCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var b strings.Builder
	if e.LoggerName != "" {
		b.WriteString(e.LoggerName + ": ")
	}
	b.WriteString(e.Message)
	enc := zapcore.NewMapObjectEncoder()
	for _, set := range [][]zapcore.Field{r.fields, fields} {
		for _, f := range set {
			f.AddTo(enc)
			fmt.Fprintf(&b, " %s=%v", f.Key, enc.Fields[f.Key])
		}
	}
	r.ring(LogLine{Time: epochSeconds(e.Time), Level: e.Level.String(), Text: b.String()})
	return nil
}

// Sync does nothing.
func (*ringCore) Sync() error { return nil }

// serviceLog writes lines of services, each under its name.
func (b *Broker) serviceLog() func(string, reactor.Log) {
	named := map[string]*zap.Logger{}
	for _, s := range b.cfg.Services {
		named[s.Service.Name()] = b.log.Named(s.Service.Name())
	}
	return func(service string, l reactor.Log) { writeLine(named[service], l) }
}

// line writes a line of the broker itself.
func (b *Broker) line(l reactor.Log) { writeLine(b.log.Named("broker"), l) }

func writeLine(log *zap.Logger, l reactor.Log) {
	level, err := zapcore.ParseLevel(l.Level)
	if err != nil {
		level = zapcore.ErrorLevel
	}
	ce := log.Check(level, l.Msg)
	if ce == nil {
		return
	}
	fields := make([]zap.Field, 0, len(l.KV)/2)
	for i := 0; i+1 < len(l.KV); i += 2 {
		fields = append(fields, zap.Any(fmt.Sprint(l.KV[i]), l.KV[i+1]))
	}
	ce.Write(fields...)
}

// stats measures this process.
func (b *Broker) stats() api.StatsRep {
	rep := api.StatsRep{PID: os.Getpid(), Start: epochSeconds(b.start), RSSKiB: residentKiB()}
	var self, kids syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &self) == nil {
		rep.CPU, rep.MaxRSSKiB = cpuSeconds(&self), self.Maxrss
	}
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &kids) == nil {
		rep.ChildCPU = cpuSeconds(&kids)
	}
	return rep
}

// residentKiB is the second number of /proc/self/statm (proc(5)), in pages.
func residentKiB() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize()) / 1024
}

func cpuSeconds(r *syscall.Rusage) float64 {
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}
