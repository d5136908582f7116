package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/overlay/outer"
	"github.com/stretchr/testify/require"
)

func TestHostFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]string{
		"n1\nn2\n": "n1 n2", "# all\nn1 slots=4\n\nn2:8 # big\n": "n1 n2", "n1\nn1\nn2\nn1\n": "n1 n2", "n[1-3]\n": "n1 n2 n3", "\n": "", "n[1\n": "error",
	} {
		require.NoError(t, os.WriteFile("hosts", []byte(text), 0o600))
		for _, name := range []string{"hosts", "./hosts"} {
			got, err := readHosts(name)
			if want == "error" {
				require.Error(t, err, text)
				continue
			}
			require.NoError(t, err, text)
			require.Equal(t, want, strings.Join(got, " "), text)
		}
	}
	got, err := readHosts("n[1-2],big")
	require.NoError(t, err)
	require.Equal(t, []string{"n1", "n2", "big"}, got)
	_, err = readHosts("./nowhere")
	require.ErrorContains(t, err, "nowhere: no such file")
}

func TestWhatEachMpiexecIsTold(t *testing.T) {
	for version, want := range map[string]string{
		"HYDRA build details:\n    Version: 4.0.2\n":          "mpiexec -n 2 -ppn 1 -hosts a,b -bind-to none",
		"Intel(R) MPI Library for Linux* OS, Version 2021.13": "mpiexec -n 2 -ppn 1 -hosts a,b -bind-to none",
		"mpiexec.openmpi (OpenRTE) 4.1.4\n":                   "mpiexec -n 2 --host a,b --map-by ppr:1:node --bind-to none -x FROND_BOOT",
		"mpiexec version 1.2.11\n":                            "mpiexec -n 2 --ppn 1 --hosts a,b --cpu-bind none",
	} {
		require.Equal(t, want, strings.Join(mpiexec(flavourOf(version), []string{"a", "b"}), " "), version)
	}
}

// An allocation is reached by what goes with it, if that is there.
func TestTheLauncherOfAnAllocation(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	has := func(program string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"), 0o755))
	}
	name := func(a outer.Allocation) string {
		r, _, err := chooseRecipe(&a)
		if err != nil {
			return err.Error()
		}
		return r.name
	}
	require.Contains(t, name(outer.Allocation{Kind: "pbs"}), "none of pbs_tmrsh, pbsdsh, ssh is in PATH")
	has("ssh")
	require.Equal(t, "ssh", name(outer.Allocation{Kind: "pbs"}))
	has("pbsdsh")
	require.Equal(t, "pbsdsh", name(outer.Allocation{Kind: "pbs"}))
	has("pbs_tmrsh")
	require.Equal(t, "pbs_tmrsh", name(outer.Allocation{Kind: "pbs"}))
	require.Equal(t, "ssh", name(outer.Allocation{Kind: "lsf"}))
	has("jsrun")
	has("blaunch")
	require.Equal(t, "blaunch", name(outer.Allocation{Kind: "lsf"}))
	require.Equal(t, "jsrun", name(outer.Allocation{Kind: "lsf", JSM: true}))
	require.Equal(t, "ssh", name(outer.Allocation{Kind: "sge"}))
}

// No ticket stands on a command line, whatever the launcher, and what is left in files goes.
func TestNoCommandLineHoldsTheTicket(t *testing.T) {
	t.Setenv("FROND_HOME", t.TempDir())
	for i := range recipes {
		w := &recipeWay{recipe: &recipes[i], self: "/opt/frond", hosts: []string{"a", "b"}, slots: []int{0, 1}, order: &treeOrder{SSH: []string{"ssh"}, Self: "/opt/frond", Fanout: 8}}
		cmds, err := w.commands("SECRET")
		require.NoError(t, err)
		slots := map[int]bool{}
		for _, c := range cmds {
			require.NotContains(t, strings.Join(c.Args, " "), "SECRET", w.name)
			require.Contains(t, strings.Join(c.Args, " "), "/opt/frond broker --join", w.name)
			for _, s := range c.slots {
				slots[s] = true
			}
		}
		require.Len(t, slots, 2, w.name)
		if w.ticket != byStdin {
			fi, err := os.Stat(w.file)
			require.NoError(t, err, w.name)
			require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
		}
		w.close()
		left, err := filepath.Glob(filepath.Join(os.Getenv("FROND_HOME"), "boot", "*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestProcessesOfOneHostShareIt(t *testing.T) {
	c := &crew{many: true, cards: []card{{Node: "a", Boot: "1", Mask: "0-3"}, {Node: "a", Boot: "1", Mask: "0-3"}, {Node: "a", Boot: "1", Mask: "4"}, {Node: "b", Boot: "2", Mask: "0-3"}, {Node: "a", Boot: "3", Mask: "0-3"}}}
	var parts [][2]int
	for i := range c.cards {
		part, of := c.part(i)
		parts = append(parts, [2]int{part, of})
	}
	require.Equal(t, [][2]int{{0, 2}, {1, 2}, {0, 1}, {0, 1}, {0, 1}}, parts, "but what is bound to cpus of its own has them alone, and names of hosts may come twice")
	names, _ := c.nodes()
	require.Equal(t, []string{"a", "a.1", "a.2", "b", "a.3"}, names)
	c.many = false
	require.Equal(t, []int{0, 3, 4}, c.brokers())
}
