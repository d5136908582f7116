package jobspec

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShapesOfFluxThatFitAJob(t *testing.T) {
	for shape, want := range map[string]Request{
		"slot/core":                         {Slots: 1, Cores: 1},
		"slot=10/core=2":                    {Slots: 10, Cores: 2},
		"slot=10/[core;memory=4{unit:GiB}]": {Slots: 10, Cores: 1, MemMiB: 4096},
		"slot=2/[core=3;gpu=0.25]":          {Slots: 2, Cores: 3, GPUPart: 25},
		"node=2/slot=4/[core=8;gpu=1]":      {Nodes: 2, Slots: 4, Cores: 8, GPUs: 1},
		"node=2{x}/slot{big,x:false}/core":  {Nodes: 2, Slots: 1, Cores: 1, Exclusive: true},
		"[node{+exclusive}/slot/core]":      {Nodes: 1, Slots: 1, Cores: 1, Exclusive: true},
		"node{-x}/slot{\"a label\"}/core":   {Nodes: 1, Slots: 1, Cores: 1},
		"slot=4/node":                       {Nodes: 4, Slots: 1, Cores: 1, Exclusive: true},
		"slot=4{nodelevel}/node/core=3":     {Nodes: 4, Slots: 1, Cores: 3},
		"slot=2/node{x}/[core=3;gpu]":       {Nodes: 2, Slots: 1, Cores: 3, GPUs: 1, Exclusive: true},
		"slot=2/node{-x}":                   {Nodes: 2, Slots: 1, Cores: 1},
	} {
		r, err := ParseShape(shape)
		require.NoError(t, err, shape)
		js, err := Build(Options{Command: []string{"a"}, Resources: r})
		require.NoError(t, err, shape)
		require.Equal(t, want, js.Request, shape)
		require.Equal(t, TaskCount{PerSlot: 1}, js.TaskCount, shape)
		data, err := json.Marshal(map[string]any{"resources": r})
		require.NoError(t, err)
		again, err := ParseResources(data)
		require.NoError(t, err, shape)
		require.Equal(t, r, again, "as JSON it is the same")
	}
}

func TestShapesThatAreRefusedSayWhy(t *testing.T) {
	for shape, want := range map[string]string{
		"":                   `"", character 1: want a type of resource, such as node, slot or core`,
		"slot/":              `"slot/", character 6: want a type of resource, such as node, slot or core`,
		"slot=4":             `"slot=4", character 7: a slot needs '/' and what is in it, such as slot/core`,
		"slot=3-30/node":     `"slot=3-30/node", character 6: count "3-30" is a range or a set; a job here asks for one number`,
		"slot=4+/core":       `"slot=4+/core", character 6: count "4+" is a range or a set; a job here asks for one number`,
		"slot=4,9/core":      `"slot=4,9/core", character 6: count "4,9" is a range or a set; a job here asks for one number`,
		"slot=x/core":        `"slot=x/core", character 6: count "x" is not a number ≥ 1`,
		"slot{a:1}/core":     `"slot{a:1}/core", character 7: the label of a slot comes first, without a key`,
		"slot/[core;gpu":     `"slot/[core;gpu", character 15: want ';' or ']'`,
		"slot/core]":         `"slot/core]", character 10: the shape should end here`,
		"slot/core{unit:\"":  `"slot/core{unit:\"", character 16: a string without its end`,
		"slot/core{count:2}": `"slot/core{count:2}", character 18: count is not given in braces`,
		"slot/core{a":        `"slot/core{a", character 12: want ',' or '}'`,
	} {
		_, err := ParseShape(shape)
		require.EqualError(t, err, want, shape)
	}
	for shape, want := range map[string]string{
		"slot/socket=2/core=4":             `jobspec: resources[0].with[0].type: "socket" is not possible in a slot; use core, gpu or memory`,
		"slot/[core;ssd]":                  `jobspec: resources[0].with[1].type: "ssd" is not possible in a slot; use core, gpu or memory`,
		"slot/gpu":                         `jobspec: resources[0].with: must have a core`,
		"node/[slot{a}/core;slot{b}/core]": `jobspec: resources[0].with: must have exactly one slot, not 2`,
		"cluster/slot/core":                `jobspec: resources[0].type: "cluster" is not possible here; version 1 allows slot or node > slot`,
		"slot=99999999999/core":            `jobspec: resources[0].count: must be at most 2147483647`,
		"slot=0.5/core":                    `jobspec: resources[0].count: must be an integer ≥ 1`,
	} {
		r, err := ParseShape(shape)
		require.NoError(t, err, shape)
		_, err = Build(Options{Command: []string{"a"}, Resources: r})
		require.EqualError(t, err, want, shape)
	}
	r, err := ParseShape("slot/core")
	require.NoError(t, err)
	_, err = Build(Options{Command: []string{"a"}, Resources: r, NTasks: 2})
	require.ErrorContains(t, err, "leave out -N")
	for _, text := range []string{"", "1", "{}", `{"resources":{}}`, "[", `{"resources":[{"with":[{"type":"slot"}]}]}`, `[1]`, `[null]`} {
		if r, err := ParseResources([]byte(text)); err == nil {
			_, err = Build(Options{Command: []string{"a"}, Resources: r})
			require.Error(t, err, text)
		}
	}
}

func FuzzParseShape(f *testing.F) {
	for _, s := range []string{"node=2/slot=4/[core=8;gpu=1]", "slot{a,x:false,b:\"c\",+d,-e}/[core]", "[[[[", "slot/slot/slot/core"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseShape(text)
		if err != nil {
			return
		}
		_, _ = Build(Options{Command: []string{"a"}, Resources: r})
	})
}
