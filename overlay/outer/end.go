package outer

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// End is when an allocation ends, as its scheduler says.
type End struct {
	At    time.Time     // zero: it has no limit
	Grain time.Duration // answers that differ by less say the same
}

// EndQuery is the command line that asks the scheduler when the allocation ends; nil: there is none that is known.
func (a *Allocation) EndQuery() []string {
	switch a.Kind {
	case "slurm":
		return []string{"scontrol", "-o", "show", "job", a.ID}
	case "lsf":
		return []string{"bjobs", "-noheader", "-o", "time_left", a.ID}
	case "pbs":
		return []string{"qstat", "-f", a.ID}
	case "sge":
		job, _, _ := strings.Cut(a.ID, ".")
		return []string{"qstat", "-xml", "-j", job}
	case "flux", "frond":
		return []string{a.Kind, "job", "timeleft", a.ID}
	}
	return nil
}

// EndEnviron is the environment for that command, made from this process's: what would change the form of the answer is set.
func EndEnviron(environ []string) []string {
	return append(filter(environ, []string{"SLURM_TIME_FORMAT", "LC_*", "LANG", "LANGUAGE"}, nil), "SLURM_TIME_FORMAT=standard", "LC_ALL=C")
}

// ParseEnd reads the answer to EndQuery, which came at the time now. Times of day in it are of the zone loc.
func (a *Allocation) ParseEnd(answer string, now time.Time, loc *time.Location) (End, error) {
	var end End
	var err error
	switch a.Kind {
	case "slurm":
		end, err = slurmEnd(answer, a.ID, loc)
	case "lsf":
		end, err = lsfEnd(answer, now)
	case "pbs":
		end, err = pbsEnd(answer, now, loc)
	case "sge":
		_, task, _ := strings.Cut(a.ID, ".")
		end, err = sgeEnd(answer, task)
	default:
		end, err = secondsLeft(answer, now)
	}
	if err != nil {
		return End{}, fmt.Errorf("%s says of job %s: %w", a.EndQuery()[0], a.ID, err)
	}
	return end, nil
}

// slurmEnd reads records of `scontrol -o show job`, of which there may be several where the id is also that of an array: JobId=7 … TimeLimit=01:00:00 … EndTime=2026-11-26T02:00:00.
func slurmEnd(answer, id string, loc *time.Location) (End, error) {
	for line := range strings.Lines(answer) {
		fields := map[string]string{}
		for f := range strings.FieldsSeq(line) {
			if name, value, ok := strings.Cut(f, "="); ok && fields[name] == "" {
				fields[name] = value
			}
		}
		switch {
		case fields["JobId"] != id:
			continue
		case fields["TimeLimit"] == "UNLIMITED" || fields["EndTime"] == "Unknown":
			return End{}, nil
		}
		at, err := time.ParseInLocation("2006-01-02T15:04:05", fields["EndTime"], loc)
		if err != nil {
			return End{}, fmt.Errorf("EndTime=%s is no time", fields["EndTime"])
		}
		return End{At: at, Grain: 2 * time.Second}, nil
	}
	return End{}, fmt.Errorf("no record of it in %q", shortened(answer))
}

// lsfEnd reads the field time_left of bjobs(1): hours:minutes and L, a run limit. An estimate (E), or a limit that has passed (X), is no limit that ends the job.
func lsfEnd(answer string, now time.Time) (End, error) {
	text := strings.Fields(answer)
	switch {
	case len(text) == 0 || text[0] == "-" || len(text) > 1 && text[1] != "L":
		return End{}, nil
	}
	left, err := clock(text[0])
	if err != nil {
		return End{}, err
	}
	if strings.Count(text[0], ":") == 1 {
		left *= 60
	}
	return End{At: now.Add(left), Grain: 90 * time.Second}, nil
}

// pbsEnd reads `qstat -f`: Resource_List.walltime, and when the job was started (stime of PBS Professional, start_time of Torque), or else resources_used.walltime,
// which is brought up to date now and then only.
func pbsEnd(answer string, now time.Time, loc *time.Location) (End, error) {
	fields := map[string]string{}
	for line := range strings.Lines(answer) {
		if name, value, ok := strings.Cut(line, " = "); ok {
			fields[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	limit, ok := fields["Resource_List.walltime"]
	if !ok {
		if len(fields) == 0 {
			return End{}, fmt.Errorf("%q, which tells nothing", shortened(answer))
		}
		return End{}, nil
	}
	length, err := clock(limit)
	if err != nil {
		return End{}, err
	}
	for _, name := range []string{"stime", "start_time"} {
		if start, err := time.ParseInLocation(time.ANSIC, fields[name], loc); err == nil {
			return End{At: start.Add(length), Grain: 2 * time.Second}, nil
		}
	}
	used, err := clock(fields["resources_used.walltime"])
	if err != nil {
		return End{}, fmt.Errorf("neither stime nor start_time nor resources_used.walltime is there")
	}
	return End{At: now.Add(length - used), Grain: 3 * time.Minute}, nil
}

// sgeEnd reads `qstat -xml -j`: the hard requests h_rt and s_rt, and the start of the task.
func sgeEnd(answer, task string) (End, error) {
	limit := math.Inf(1)
	for part := range strings.SplitSeq(answer, "<CE_name>") {
		if name, rest, _ := strings.Cut(part, "</CE_name>"); name == "h_rt" || name == "s_rt" {
			if v, err := strconv.ParseFloat(between(rest, "<CE_doubleval>", "</CE_doubleval>"), 64); err == nil {
				limit = min(limit, v)
			}
		}
	}
	if math.IsInf(limit, 1) {
		return End{}, nil
	}
	for part := range strings.SplitSeq(answer, "<JAT_task_number>") {
		number, rest, found := strings.Cut(part, "</JAT_task_number>")
		if !found || task != "" && number != task {
			continue
		}
		for _, text := range []string{rest, answer} { // the start stands behind the number, or alone
			if start, err := strconv.ParseFloat(between(text, "<JAT_start_time>", "</JAT_start_time>"), 64); err == nil && start > 0 {
				if start > 1e11 {
					start /= 1000 // some versions count milliseconds
				}
				return End{At: time.UnixMilli(int64(1000 * (start + limit))), Grain: 2 * time.Second}, nil
			}
		}
	}
	return End{}, fmt.Errorf("no JAT_start_time")
}

// secondsLeft reads what `flux job timeleft` prints; 4294967295 or infinity is no limit.
func secondsLeft(answer string, now time.Time) (End, error) {
	text := strings.TrimSpace(answer)
	if text == "infinity" {
		return End{}, nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil || s < 0 {
		return End{}, fmt.Errorf("%q is no number of seconds", shortened(text))
	}
	if s >= math.MaxUint32 {
		return End{}, nil
	}
	return End{At: now.Add(time.Duration(s * float64(time.Second))), Grain: 3 * time.Second}, nil
}

// clock reads [[hours:]minutes:]seconds.
func clock(text string) (time.Duration, error) {
	total := 0
	for part := range strings.SplitSeq(text, ":") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || total > 1<<24 {
			return 0, fmt.Errorf("%q is no time like 12:00:00", text)
		}
		total = 60*total + n
	}
	return time.Duration(total) * time.Second, nil
}

// between is what stands between two marks in text; empty if they are not there.
func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, found := strings.Cut(text, to)
	if !found {
		return ""
	}
	return text
}

func shortened(text string) string {
	text = strings.TrimSpace(text)
	return text[:min(len(text), 80)]
}
