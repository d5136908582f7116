#!/bin/bash
# Looks for what the build needs and installs what is missing: as root with apt-get, else it says what to install.
set -euo pipefail

fail() { echo "frond: $*" >&2; exit 1; }

want=$(awk '$1 == "go" { print $2 }' go.mod)
command -v go >/dev/null ||
	fail "Go is missing. Install Go $want or newer (https://go.dev/dl, or your distribution's package) and run make again."
# `go env GOVERSION` inside the module fails, or fetches that toolchain, when this Go is older than go.mod asks for.
go env GOVERSION >/dev/null 2>&1 || fail "$(go version) is too old; Go $want or newer is needed."

missing=()
command -v gcc >/dev/null || command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v pkg-config >/dev/null || missing+=(pkg-config)
if ! { command -v pkg-config && pkg-config --exists 'libzmq >= 4.2'; } >/dev/null 2>&1; then
	missing+=(libzmq3-dev)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
	fail "missing: ${missing[*]}. Install them, on Debian or Ubuntu with: sudo apt-get install ${missing[*]}"
fi
command -v apt-get >/dev/null ||
	fail "missing: ${missing[*]} (Debian's names). Install them with your distribution's packages and run make again."

echo "frond: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 ||
	{ cat "$log" >&2; fail "apt-get could not install ${missing[*]}."; }
pkg-config --exists 'libzmq >= 4.2' || fail "libzmq is still not found by pkg-config after installing ${missing[*]}."
