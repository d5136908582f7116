package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
)

// topModel is the screen of frond top: what is shown, and what keys do. It asks its source by commands that the program runs.
type topModel struct {
	src           topSource
	levels        []topLevel // the last one is shown
	data          *topData   // of it; nil = not there yet
	rate          float64    // jobs that end in a second
	err           string
	chosen        int // job
	visit         int // counts entries into instances, so that what was asked before the last one is told apart
	width, height int
	ascii         bool
}

// topLevel is an instance on the way down.
type topLevel struct{ uri, title string }

// Messages of the screen, beside keys and sizes.
type (
	topTick   struct{ visit int }
	topLooked struct {
		visit int
		data  *topData
		err   error
	}
	topInto struct {
		level topLevel
		err   error
	}
)

// topEvery is how often the instance is asked.
const topEvery = time.Second

func newTopModel(src topSource, uri string, ascii bool) topModel {
	return topModel{src: src, levels: []topLevel{{uri: uri}}, width: 80, height: 24, ascii: ascii}
}

// Init implements tea.Model.
func (m topModel) Init() tea.Cmd { return m.look() }

func (m topModel) here() topLevel { return m.levels[len(m.levels)-1] }

func (m topModel) look() tea.Cmd {
	src, uri, visit := m.src, m.here().uri, m.visit
	return func() tea.Msg {
		data, err := src.look(uri)
		return topLooked{visit, data, err}
	}
}

// Update implements tea.Model.
func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		return m.key(msg.String())
	case topTick:
		if msg.visit == m.visit {
			return m, m.look()
		}
	case topLooked:
		return m.looked(msg)
	case topInto:
		if msg.err != nil {
			m.err = msg.err.Error()
			return m, nil
		}
		m.levels = append(slices.Clip(m.levels), msg.level)
		return m.enter()
	}
	return m, nil
}

// enter begins to show another instance.
func (m topModel) enter() (tea.Model, tea.Cmd) {
	m.data, m.rate, m.err, m.chosen = nil, 0, "", 0
	m.visit++
	return m, m.look()
}

func (m topModel) looked(msg topLooked) (tea.Model, tea.Cmd) {
	if msg.visit != m.visit {
		return m, nil // it has been left
	}
	tick := tea.Tick(topEvery, func(time.Time) tea.Msg { return topTick{msg.visit} })
	if msg.err != nil {
		m.err = msg.err.Error()
		return m, tick
	}
	if old := m.data; old != nil {
		if dt := msg.data.at.Sub(old.at).Seconds(); dt > 0 {
			m.rate = float64(msg.data.view.counts.Inactive-old.view.counts.Inactive) / dt
		}
	}
	var was jobspec.ID
	if m.data != nil && m.chosen < len(m.data.jobs) {
		was = m.data.jobs[m.chosen].ID
	}
	slices.SortStableFunc(msg.data.jobs, listOrder)
	m.data, m.err = msg.data, ""
	if at := slices.IndexFunc(m.data.jobs, func(j *api.JobInfo) bool { return j.ID == was }); at >= 0 { // it stays chosen wherever it stands now
		m.chosen = at
	}
	m.chosen = max(0, min(m.chosen, len(m.data.jobs)-1))
	return m, tick
}

func (m topModel) key(key string) (tea.Model, tea.Cmd) {
	n := 0
	if m.data != nil {
		n = len(m.data.jobs)
	}
	switch key {
	case "q", "ctrl+c", "esc":
		return m, tea.Quit
	case "up", "k":
		m.chosen = max(0, m.chosen-1)
	case "down", "j":
		m.chosen = max(0, min(n-1, m.chosen+1))
	case "enter", "right", "l":
		if n > 0 {
			return m, m.into(m.data.jobs[m.chosen])
		}
	case "backspace", "left", "h":
		if len(m.levels) > 1 {
			m.levels = m.levels[:len(m.levels)-1]
			return m.enter()
		}
	}
	return m, nil
}

func (m topModel) into(j *api.JobInfo) tea.Cmd {
	src, here, title := m.src, m.here(), m.idOf(j)
	if here.title != "" {
		title = here.title + "/" + title
	}
	return func() tea.Msg {
		uri, err := src.into(here.uri, j.ID)
		return topInto{topLevel{uri, title}, err}
	}
}

func (m topModel) idOf(j *api.JobInfo) string {
	if m.ascii {
		return j.ID.F58Plain()
	}
	return j.ID.String()
}

// topHead is the lines above the jobs.
const topHead = 6

// View implements tea.Model.
func (m topModel) View() string {
	var b strings.Builder
	line := func(format string, args ...any) {
		text := []rune(fmt.Sprintf(format, args...))
		b.WriteString(string(text[:min(len(text), m.width)]) + "\n")
	}
	if m.data == nil {
		line("%s", strings.TrimSpace("… "+m.here().title))
		line("%s", escaped(m.err))
		return b.String()
	}
	d, v := m.data, m.data.view
	title := d.name
	if m.here().title != "" {
		title = m.here().title
	}
	line("%s  level %s  up %s  frond %s", escaped(title), d.level, ageText(max(0, float64(d.at.UnixMicro())/1e6-d.start)), d.version)
	line("nodes %s  cores %s  gpus %d", bar(v.up, v.nodes, "up"), bar(v.in, v.cores, "used"), v.gpus)
	c := v.counts
	line("%d pending  %d running  %d completed  %d failed  %d canceled  %.1f jobs/s", c.Pending, c.Running, c.Inactive-c.Failed, c.Failed-c.Canceled, c.Canceled, m.rate)
	line("%s", escaped(m.err))
	line("  %12s %-8s %2s %6s %6s %8s  %s", "JOBID", "QUEUE", "ST", "NTASKS", "NNODES", "TIME", "NAME")
	m.jobs(line)
	return b.String()
}

// bar is part of whole as a bar of ten characters and numbers.
func bar(part, whole int, what string) string {
	full := 0
	if whole > 0 {
		full = 10 * part / whole
	}
	return fmt.Sprintf("[%s%s %d/%d %s]", strings.Repeat("|", full), strings.Repeat(" ", 10-full), part, whole, what)
}

// jobs writes those that fit, around the chosen one.
func (m topModel) jobs(line func(string, ...any)) {
	rows := max(1, m.height-topHead)
	first := max(0, min(m.chosen-rows/2, len(m.data.jobs)-rows))
	now := float64(m.data.at.UnixMicro()) / 1e6
	for i := first; i < min(len(m.data.jobs), first+rows); i++ {
		j := m.data.jobs[i]
		v := jobView{JobInfo: j, now: now, ascii: m.ascii, users: map[uint32]string{}}
		mark, name := "  ", escaped(j.Name)
		if i == m.chosen {
			mark = "> "
		}
		if memoURI(j) != "" {
			name += "/"
		}
		if j.NElements > 1 {
			name += fmt.Sprintf(" (%d)", j.NElements)
		}
		nodes, spent := "-", "-"
		if j.NNodes > 0 {
			nodes = fmt.Sprint(j.NNodes)
		}
		if t := v.runtime(); t > 0 {
			spent = ageText(t)
		}
		line("%s%12s %-8.8s %2s %6d %6s %8s  %s", mark, v.f58(), j.Queue, textOf(v.field("status_abbrev")), j.NTasks, nodes, spent, name)
	}
}
