#!/bin/bash
# Installs the programs of others that tests run beside Frond: as root with apt-get, else it says which tests will be skipped.
set -euo pipefail

# a command that shows that it is there, and Debian's packages that bring it
declare -A packages=(
	[mpicc.mpich]="mpich libmpich-dev"
	[parallel]="parallel"
	[cargo]="cargo"
	[pip3]="python3-pip"
	[slurmd]="slurm-wlm munge"
	[sge_execd]="gridengine-master gridengine-exec gridengine-client"
	[sshd]="openssh-server openssh-client"
	[mpiexec.openmpi]="openmpi-bin"
	[ip]="iproute2"
	[jq]="jq"
)

missing=()
PATH=$PATH:/usr/sbin:/sbin
for command in "${!packages[@]}"; do
	command -v "$command" >/dev/null || missing+=(${packages[$command]})
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "frond: tests that need ${missing[*]} (Debian's names) will be skipped" >&2
	exit 0
fi
echo "frond: installing ${missing[*]} for the tests"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 ||
	{ cat "$log" >&2; echo "frond: apt-get could not install ${missing[*]}." >&2; exit 1; }
