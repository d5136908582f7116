package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// fakeTop is an instance at "top" with a job that is one at "below".
type fakeTop struct {
	at   time.Time
	done int
	err  error
}

func (f *fakeTop) look(uri string) (*topData, error) {
	if f.err != nil {
		return nil, f.err
	}
	d := &topData{at: f.at, name: uri, level: "0", version: "1", start: 1000, view: &instanceView{nodes: 4, up: 2, cores: 8, in: 8, counts: api.CountsRep{Running: 2, Inactive: f.done, Failed: 1}}}
	run := int(jobspec.StateRun)
	if uri == "below" {
		d.jobs = []*api.JobInfo{{ID: 9, Name: "deep", State: run}}
		return d, nil
	}
	d.jobs = []*api.JobInfo{{ID: 1, Name: "plain", State: run, TRun: 2}, {ID: 2, Name: "inst", State: run, TRun: 1, Memo: `{"uri":"ssh://h/x"}`}}
	return d, nil
}

func (f *fakeTop) into(uri string, id jobspec.ID) (string, error) {
	if id != 2 {
		return "", errors.New("it is no instance")
	}
	return "below", nil
}

// press gives the screen a key and what follows from it.
func press(t *testing.T, m tea.Model, key tea.KeyMsg) tea.Model {
	t.Helper()
	m, cmd := m.Update(key)
	for range 3 {
		if cmd == nil {
			break
		}
		msg := cmd()
		m, cmd = m.Update(msg)
		if _, looked := msg.(topLooked); looked {
			break // then comes the tick
		}
	}
	return m
}

func TestTheScreenOfTop(t *testing.T) {
	src := &fakeTop{at: time.Unix(1100, 0), done: 5}
	var m tea.Model = newTopModel(src, "top", true)
	require.Contains(t, m.View(), "…")
	m, cmd := m.Update(m.Init()())
	require.NotNil(t, cmd, "it asks again")
	view := m.View()
	require.Contains(t, view, "top  level 0  up 2m")
	require.Contains(t, view, "nodes [|||||      2/4 up]  cores [|||||||||| 8/8 used]")
	require.Contains(t, view, "0 pending  2 running  4 completed  1 failed")
	require.Regexp(t, `(?m)^> .* plain$`, view)
	require.Regexp(t, `(?m)^  .* inst/$`, view)

	src.at, src.done = src.at.Add(2*time.Second), 25
	m, _ = m.Update(topTick{})
	m, _ = m.Update(m.Init()())
	require.Contains(t, m.View(), "10.0 jobs/s")

	m = press(t, m, tea.KeyMsg{Type: tea.KeyEnter})
	require.Contains(t, m.View(), "it is no instance")
	m = press(t, m, tea.KeyMsg{Type: tea.KeyDown})
	require.Regexp(t, `(?m)^> .* inst/$`, m.View())
	m = press(t, m, tea.KeyMsg{Type: tea.KeyEnter})
	require.Contains(t, m.View(), "deep")
	require.NotContains(t, m.View(), "plain")
	require.True(t, strings.HasPrefix(m.View(), jobspec.ID(2).F58Plain()), "the path stands there")
	m, cmd = m.Update(topLooked{visit: 0, err: errors.New("late")})
	require.Contains(t, m.View(), "deep", "an answer of the instance before")
	require.Nil(t, cmd)
	_, cmd = m.Update(topTick{visit: 0})
	require.Nil(t, cmd, "its clock has stopped: else each way down and up would add one")
	_, cmd = m.Update(topTick{visit: 1})
	require.NotNil(t, cmd)
	m = press(t, m, tea.KeyMsg{Type: tea.KeyBackspace})
	require.Contains(t, m.View(), "plain")

	src.err = errors.New("nobody answers")
	m, _ = m.Update(m.Init()())
	require.Contains(t, m.View(), "nobody answers")
	require.Contains(t, m.View(), "plain", "what was known stays")
	_, cmd = m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("q")})
	require.Equal(t, tea.Quit(), cmd())
}

func TestTheScreenOfTopFitsTheTerminal(t *testing.T) {
	var m tea.Model = newTopModel(&fakeTop{at: time.Unix(1100, 0)}, "top", true)
	m, _ = m.Update(m.Init()())
	m, _ = m.Update(tea.WindowSizeMsg{Width: 20, Height: 7})
	lines := strings.Split(strings.TrimRight(m.View(), "\n"), "\n")
	require.Len(t, lines, 6)
	for _, l := range lines {
		require.LessOrEqual(t, len([]rune(l)), 20)
	}
	require.Contains(t, lines[len(lines)-1], ">")
	m, _ = m.Update(tea.KeyMsg{Type: tea.KeyDown})
	require.Contains(t, m.View(), ">", "the chosen job is on it")
}
