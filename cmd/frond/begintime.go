package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/jobspec"
)

// depends puts the dependencies of the options into a jobspec's.
func (o *submitOptions) depends(s *jobspec.Options) error {
	s.Depends = append([]string(nil), o.dependency...)
	if o.beginTime == "" {
		return nil
	}
	at, err := parseBeginTime(o.beginTime, time.Now())
	if err != nil {
		return fmt.Errorf("--begin-time: %w", err)
	}
	secs := strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)
	s.Depends = append(s.Depends, "begin-time:"+secs)
	return nil
}

// dateLayouts are the dates and times that --begin-time takes, in local time.
var dateLayouts = []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.RFC3339, "2006-01-02"}

// clockLayouts are times of day.
var clockLayouts = []string{"15:04:05", "15:04", "3:04pm", "3pm"}

// parseBeginTime reads +FSD, a date with or without a time, a time of day (the next there is), "now", or today, tomorrow or a day of the
// week with or without a time.
func parseBeginTime(text string, now time.Time) (time.Time, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	if fsd, ok := strings.CutPrefix(s, "+"); ok {
		secs, err := jobspec.ParseFSD(fsd)
		if err != nil || math.IsInf(secs, 0) || secs > maxBeginIn {
			return now, fmt.Errorf("%q is not a duration, as in +30m or +2h", text)
		}
		return now.Add(time.Duration(secs * float64(time.Second))), nil
	}
	for _, layout := range dateLayouts {
		if t, err := time.ParseInLocation(layout, strings.ToUpper(s), now.Location()); err == nil {
			return inFuture(t, now, text)
		}
	}
	if t, ok := clockTime(s, now); ok {
		if t.Before(now) {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	day, clock, _ := strings.Cut(s, " ")
	days, ok := daysUntil(day, now)
	if !ok {
		return now, fmt.Errorf("%q is no time: write +2h (from now), 18:00, tomorrow, 'monday 8:00', 2026-12-24 or '2026-12-24 18:00'", text)
	}
	base := now.AddDate(0, 0, days)
	if clock == "" {
		return base, nil
	}
	t, ok := clockTime(clock, base)
	if !ok {
		return now, fmt.Errorf("%q is no time of day: write 18:00, 6pm, noon or midnight", clock)
	}
	return inFuture(t, now, text)
}

// maxBeginIn is a hundred years.
const maxBeginIn = 100 * 365 * 86400

func inFuture(t, now time.Time, text string) (time.Time, error) {
	if t.Before(now) {
		return t, fmt.Errorf("%q has passed", text)
	}
	return t, nil
}

// clockTime is a time of day on the day of base.
func clockTime(s string, base time.Time) (time.Time, bool) {
	switch s {
	case "noon":
		s = "12:00"
	case "midnight":
		s = "00:00"
	}
	for _, layout := range clockLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return time.Date(base.Year(), base.Month(), base.Day(), t.Hour(), t.Minute(), t.Second(), 0, base.Location()), true
		}
	}
	return base, false
}

// daysUntil is how many days lie before the day of that name.
func daysUntil(day string, now time.Time) (int, bool) {
	switch day {
	case "now", "today":
		return 0, true
	case "tomorrow":
		return 1, true
	}
	for d := range 7 {
		name := strings.ToLower(time.Weekday(d).String())
		if day == name || day == name[:3] {
			return (d-int(now.Weekday())+6)%7 + 1, true
		}
	}
	return 0, false
}
