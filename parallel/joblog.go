package parallel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// LogHeader is the first line of a job log.
const LogHeader = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"

// LogEntry is a line of a job log.
type LogEntry struct {
	Seq     int
	Host    string  // ":" = this one
	Start   float64 // seconds since the epoch
	Runtime float64
	Send    int64
	Receive int64 // bytes of standard output
	Outcome
	Command string
}

// Line is the entry as it stands in the log.
func (l *LogEntry) Line() string {
	return fmt.Sprintf("%d\t%s\t%.3f\t%10.3f\t%d\t%d\t%d\t%d\t%s\n", l.Seq, l.Host, l.Start, l.Runtime, l.Send, l.Receive, l.Exit, l.Signal,
		oneLine(l.Command))
}

// oneLine is a command as it stands in a log: with NUL for newline.
func oneLine(command string) string { return strings.ReplaceAll(command, "\n", "\x00") }

// ReadLog calls each for the entries of a job log, in their order. A last line that was not written to its end is no entry.
func ReadLog(in io.Reader, each func(*LogEntry)) error {
	r := bufio.NewReaderSize(in, 1<<16)
	for n := 1; ; n++ {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == 1 && line == LogHeader {
			continue
		}
		e, ok := parseEntry(strings.TrimSuffix(line, "\n"))
		if !ok {
			return fmt.Errorf("line %d is not one of a job log: %.60q", n, line)
		}
		each(e)
	}
}

func parseEntry(line string) (*LogEntry, bool) {
	f := strings.SplitN(line, "\t", 9)
	if len(f) != 9 {
		return nil, false
	}
	e := &LogEntry{Host: f[1], Command: strings.ReplaceAll(f[8], "\x00", "\n")}
	var errs [7]error
	e.Seq, errs[0] = strconv.Atoi(f[0])
	e.Start, errs[1] = strconv.ParseFloat(strings.TrimSpace(f[2]), 64)
	e.Runtime, errs[2] = strconv.ParseFloat(strings.TrimSpace(f[3]), 64)
	e.Send, errs[3] = strconv.ParseInt(f[4], 10, 64)
	e.Receive, errs[4] = strconv.ParseInt(f[5], 10, 64)
	e.Exit, errs[5] = strconv.Atoi(f[6])
	e.Signal, errs[6] = strconv.Atoi(f[7])
	return e, errors.Join(errs[:]...) == nil && e.Seq > 0
}

// Done is what a job log tells of the jobs of an earlier run.
type Done struct {
	seqs map[int]uint64 // hash of the command; 0 = failed and to be run again
}

// Note takes an entry; with failed, jobs that failed count as not done.
func (d *Done) Note(e *LogEntry, failed bool) {
	if d.seqs == nil {
		d.seqs = map[int]uint64{}
	}
	if failed && e.Failed() {
		delete(d.seqs, e.Seq)
		return
	}
	d.seqs[e.Seq] = hash(e.Command)
}

// Has tells whether the job was done. The error says that the log's job of this number is another one. (GNU parallel goes by the number
// alone, and runs the wrong commands then.)
func (d *Done) Has(seq int, command string) (bool, error) {
	h, ok := d.seqs[seq]
	if ok && h != hash(command) {
		return true, fmt.Errorf("job %d was another command in it than %q", seq, command)
	}
	return ok, nil
}

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// TableHeader is the first line of a table of results: names are those of the sources, V1, V2 … where there are none.
func TableHeader(sep string, names []string, n int) string {
	cols := strings.Fields(strings.TrimSuffix(LogHeader, "\n"))
	for i := range n {
		if i < len(names) {
			cols = append(cols, names[i])
		} else {
			cols = append(cols, "V"+strconv.Itoa(i+1))
		}
	}
	return tableLine(sep, append(cols, "Stdout", "Stderr"))
}

// Row is the entry as a line of a table of results, with the job's values and what it wrote.
func (l *LogEntry) Row(sep string, args []string, output [2]string) string {
	cols := []string{strconv.Itoa(l.Seq), l.Host, fmt.Sprintf("%.3f", l.Start), fmt.Sprintf("%.3f", l.Runtime), strconv.FormatInt(l.Send, 10),
		strconv.FormatInt(l.Receive, 10), strconv.Itoa(l.Exit), strconv.Itoa(l.Signal), l.Command}
	return tableLine(sep, append(append(cols, args...), output[0], output[1]))
}

func tableLine(sep string, cols []string) string {
	var b strings.Builder
	for i, c := range cols {
		if i > 0 {
			b.WriteString(sep)
		}
		if strings.ContainsAny(c, " \t\r\n\""+sep) {
			c = `"` + strings.ReplaceAll(c, `"`, `""`) + `"`
		}
		b.WriteString(c)
	}
	b.WriteByte('\n')
	return b.String()
}

// JSON is the entry as a line of JSON, with the job's values and what it wrote.
func (l *LogEntry) JSON(args []string, output [2]string) string {
	values := make([]string, len(args))
	for i, a := range args {
		values[i] = jsonText(a)
	}
	return fmt.Sprintf(`{ "Seq": %d, "Host": %s, "Starttime": %.3f, "JobRuntime": %.3f, "Send": %d, "Receive": %d, "Exitval": %d, "Signal": %d, `+
		`"Command": %s, "V": [ %s ], "Stdout": %s, "Stderr": %s }`+"\n", l.Seq, jsonText(l.Host), l.Start, l.Runtime, l.Send, l.Receive, l.Exit, l.Signal,
		jsonText(l.Command), strings.Join(values, ","), jsonText(output[0]), jsonText(output[1]))
}

// jsonText is a JSON string in which control characters are numbers.
func jsonText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
