// Command bench measures the table in the design (§12) and prints each as a ratio to something measured in the
// same run on the same machine, marked real (processes were run) or mock.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
)

// row is one line of the table.
type row struct {
	what     string
	kind     string // real, mock, computed from the rows above, or - where no job runs
	value    float64
	unit     string
	base     float64 // the yardstick of the same run, in unit or as baseWhat says
	baseWhat string
	floor    float64
	aim      float64
	lower    bool // less is better
}

// met tells whether a value reaches a limit.
func (r row) met(limit float64) bool {
	if r.lower {
		return r.value <= limit
	}
	return r.value >= limit
}

// verdict compares with floor and aim.
func (r row) verdict() string {
	switch {
	case r.floor == 0 && r.aim == 0:
		return ""
	case r.met(r.aim):
		return "aim met"
	case r.met(r.floor):
		return fmt.Sprintf("floor met, aim at %.0f %%", r.percent(r.aim))
	}
	return fmt.Sprintf("FLOOR MISSED (%.0f %%)", r.percent(r.floor))
}

func (r row) percent(limit float64) float64 {
	if r.lower {
		return 100 * limit / r.value
	}
	return 100 * r.value / limit
}

// section measures some rows.
type section struct {
	name  string
	run   func(context.Context, *bench) ([]row, error)
	apart bool   // only when it is named
	note  string // below the table
}

// bench is what the sections share.
type bench struct {
	frond string // the binary under test
	jobs  int    // of the real run
	mock  int    // of the large mock runs
}

func main() {
	frond := flag.String("frond", "bin/frond", "binary under test")
	only := flag.String("only", "", "comma list of sections: real,mock,submit,sched,start,children,rtt,kvs,commands,parallel, and split, which is not run otherwise")
	jobs := flag.Int("jobs", 4000, "real jobs")
	mock := flag.Int("mock", 1000000, "jobs of the large mock runs")
	flag.Parse()
	b := &bench{frond: *frond, jobs: *jobs, mock: *mock}
	if err := b.all(context.Background(), *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) all(ctx context.Context, only string) error {
	sections := []section{{name: "real", run: realRows}, {name: "mock", run: mockRows}, {name: "submit", run: submitRows}, {name: "sched", run: schedRows},
		{name: "start", run: startRows}, {name: "split", run: splitRows, apart: true, note: splitNote}, {name: "children", run: childRows}, {name: "rtt", run: rttRows},
		{name: "kvs", run: kvsRows}, {name: "commands", run: commandRows}, {name: "parallel", run: parallelRows}}
	notes := ""
	var rows []row
	for _, s := range sections {
		if named := strings.Contains(","+only+",", ","+s.name+","); !named && (only != "" || s.apart) {
			continue
		}
		fmt.Fprintf(os.Stderr, "bench: %s …\n", s.name)
		got, err := s.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		rows = append(rows, got...)
		notes += s.note
	}
	if err := print(rows); err != nil {
		return err
	}
	_, err := fmt.Print(notes)
	return err
}

func print(rows []row) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tJOBS\tMEASURED\tRATIO\tTO\tFLOOR\tAIM\tVERDICT")
	missed := 0
	for _, r := range rows {
		ratio := "-"
		if r.base > 0 {
			ratio = fmt.Sprintf("%.3g", r.value/r.base)
		}
		v := r.verdict()
		if strings.HasPrefix(v, "FLOOR") {
			missed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.kind, number(r.value, r.unit), ratio, r.baseWhat, limit(r.floor, r.unit), limit(r.aim, r.unit), v)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("%d rows, %d floors missed\n", len(rows), missed)
	return nil
}

func number(v float64, unit string) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 1:
		return fmt.Sprintf("%.2f %s", v, unit)
	}
	return fmt.Sprintf("%.3g %s", v, unit)
}

func limit(v float64, unit string) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%g %s", v, unit)
}
