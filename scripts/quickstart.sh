#!/bin/bash
# The quickstart: four brokers on this host, a parameter sweep as one array, its jobs and its results.
# Run it by `make quickstart`, which builds first.
set -euo pipefail
cd "$(dirname "$0")/.."

count=${COUNT:-48} # values of the parameter, one job each
PATH="$PWD/bin:$PATH"
out=$(mktemp -d "${TMPDIR:-/tmp}/frond-quickstart.XXXXXX")
export count out

bold() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }
export -f bold

# What runs inside the instance. FROND_URI is set for it, so that each frond command finds the instance.
inside() {
	set -euo pipefail
	bold "== The instance: four brokers, each with a share of this host's cores"
	frond overlay status
	echo
	bold "== The sweep: $count jobs in one submission; {cc} is 1 … $count"
	echo "\$ frond submit --cc=1-$count --output=$out/{cc} --wait lyapunov 2.8 3.98 $count {cc}"
	frond submit --cc="1-$count" --output="$out/{cc}" --wait --quiet lyapunov 2.8 3.98 "$count" '{cc}'
	echo
	bold "== The jobs, the latest ten of them (frond jobs -a)"
	frond jobs -a -c 10
	echo
	bold "== The results: does x ← r·x·(1−x) settle (order), or wander for ever (chaos)?"
	printf '%7s  %8s\n' r exponent
	cat "$out"/* | sort -n | awk '{ n = int($2 * 25); if (n < 0) n = -n; bar = ""; while (n-- > 0 && length(bar) < 40) bar = bar ($2 > 0 ? "#" : "-")
		printf "%7s  %8s  %s  %s\n", $1, $2, $3, bar }'
	[ "$(cat "$out"/* | wc -l)" -eq "$count" ] || { echo "quickstart: some results are missing, see $out" >&2; exit 1; }
}
export -f inside

frond start -n 4 -- bash -c inside
rm -rf "$out"

cat <<'END'

The instance has ended, and nothing of it is left behind. What to try next:

  export PATH=$PWD/bin:$PATH
  frond start                                 a shell with an instance for this host; exit ends it
  frond run -n2 hostname                      in there: run a job and see its output
  frond submit --cc=1-1000 --progress --wait true
  frond jobs -a    frond job info ID eventlog    frond resource list    frond --help
  frond start --statedir work -- ./script.sh  keeps its jobs: after a crash the same command goes on

README.md has more; the program of the sweep is examples/lyapunov.
END
