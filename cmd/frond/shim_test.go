package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOtherLaunchersLinesAreSaidInFrondsWords(t *testing.T) {
	for _, r := range []struct{ typed, line, left string }{
		{"srun -n4 ./a", "frond run -n4 ./a", ""},
		{"srun -N 2 -n 8 --mpi=pmi2 -c2 ./a -n 5", "frond run -N2 -n8 -c2 ./a -n 5", ""},
		{"srun --ntasks=4 --time 1:30:00 --cpu-bind=none -l ./a --label", "frond run -n4 -t1.5h -l ./a --label", ""},
		{"srun --overlap -Q -p debug --mem=4G ./a", "frond run ./a", "-p --mem=4G"},
		{"srun --pty bash", "frond run -o pty.interactive bash", ""},
		{"srun -t 1-12 -w n1 -o out.%j ./a b_c", "frond run -t1.5d --requires=host:n1 --output=out.%j ./a 'b c'", ""},
		{"srun", "frond run", ""},
		{"jsrun -n 4 -a 2 -c 14 -g 2 -b none ./a", "frond run -n8 -c7 -g1 ./a", ""},
		{"jsrun -p4 -r 1 ./a", "frond run -n4 ./a", "-r"},
	} {
		args := strings.Fields(r.typed)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		line, left := translate(args[0], args[1:])
		require.Equal(t, r.line, line, r.typed)
		require.Equal(t, r.left, strings.Join(left, " "), r.typed)
	}
	require.Equal(t, "x", slurmTime("x"))
	require.Contains(t, instead("srun", []string{"-n4", "./a"}), "would ask the site for a new job. Use:\n  frond run -n4 ./a\n")
}
