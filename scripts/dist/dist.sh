#!/bin/bash
# Release binaries: one bin/frond for Linux with glibc 2.17 or newer, with no library beside libc, and a tarball around it, for each
# architecture named (amd64, arm64). libzmq and libsodium are built from source (CURVE only). The C compiler is zig's, which brings the
# headers and stubs of every glibc and every target. Sources and compiler come from package registries, at the checksums below.
set -euo pipefail
cd "$(dirname "$0")/../.."

zig_version=0.15.2
zig_hash_x86_64=806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130
zig_hash_aarch64=edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230
# The crates that carry the sources, as published; and the one file of theirs that is used of libsodium's.
zeromq_src=0.3.6 # libzmq 4.3.5
zeromq_src_sum=d9a1c884770df9c1b3eb0a0ad01d7516234879e0ce144c505348550f2492923e
sodium_src=1.24.3
sodium_src_sum=1f55c1c508d31e2cf0a649c9c889e4bcf554cbfb2a6803f049f219784b044283
glibc=2.17

version=${VERSION:?set VERSION}
dist=$PWD/dist
cache=$dist/cache
jobs=$(nproc)

fail() { echo "make dist: $*" >&2; exit 1; }
say() { echo "== $*"; }
need() { command -v "$1" >/dev/null || fail "$1 is missing: $2"; }

# fetch_zig unpacks the compiler into $cache/zig-VERSION.
fetch_zig() {
	zig=$cache/zig-$zig_version/ziglang/zig
	[ -x "$zig" ] && return
	say "C compiler: ziglang $zig_version"
	need python3 "its pip fetches the compiler"
	local tmp
	tmp=$(mktemp -d "$cache/zig.XXXXXX")
	printf 'ziglang==%s --hash=sha256:%s --hash=sha256:%s\n' "$zig_version" "$zig_hash_x86_64" "$zig_hash_aarch64" >"$tmp/requirements"
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: -d "$tmp" -r "$tmp/requirements" ||
		fail "the compiler could not be fetched"
	python3 -m zipfile -e "$tmp"/ziglang-*.whl "$tmp/out"
	chmod +x "$tmp/out/ziglang/zig"
	rm -rf "$cache/zig-$zig_version"
	mv "$tmp/out" "$cache/zig-$zig_version"
	rm -rf "$tmp"
}

# fetch_sources vendors the two crates into $cache/src and checks what came.
fetch_sources() {
	src=$cache/src-$zeromq_src-$sodium_src
	[ -d "$src/vendor" ] && return
	say "sources: zeromq-src $zeromq_src, libsodium-sys-stable $sodium_src"
	need cargo "it fetches the sources of libzmq and libsodium (Debian: apt-get install cargo)"
	local tmp
	tmp=$(mktemp -d "$cache/src.XXXXXX")
	mkdir "$tmp/src"
	: >"$tmp/src/lib.rs"
	cat >"$tmp/Cargo.toml" <<-END
		[package]
		name = "sources"
		version = "0.0.0"
		[dependencies]
		zeromq-src = "=$zeromq_src"
		libsodium-sys-stable = "=$sodium_src"
	END
	(cd "$tmp" && cargo vendor --quiet vendor >/dev/null) || fail "the sources could not be fetched"
	check_crate "$tmp" zeromq-src "$zeromq_src_sum"
	check_crate "$tmp" libsodium-sys-stable "$sodium_src_sum"
	rm -rf "$src"
	mv "$tmp" "$src"
}

# check_crate compares the checksum of a crate as published, and of the files of it that came.
check_crate() {
	python3 - "$1/vendor/$2" "$3" <<-'END' || fail "crate $2 is not the one that was pinned"
		import hashlib, json, os, sys
		folder, want = sys.argv[1:]
		sums = json.load(open(os.path.join(folder, ".cargo-checksum.json")))
		if sums["package"] != want:
		    sys.exit(f"checksum {sums['package']}, pinned {want}")
		for name, digest in sums["files"].items():
		    if hashlib.sha256(open(os.path.join(folder, name), "rb").read()).hexdigest() != digest:
		        sys.exit(f"{name} differs")
	END
}

# tools writes the compiler's wrappers for one target into $work/bin.
tools() {
	mkdir -p "$work/bin"
	printf '#!/bin/sh\nexec "%s" cc -target %s "$@"\n' "$zig" "$1" >"$work/bin/cc"
	printf '#!/bin/sh\nexec "%s" c++ -target %s "$@"\n' "$zig" "$1" >"$work/bin/c++"
	printf '#!/bin/sh\nexec "%s" ar "$@"\n' "$zig" >"$work/bin/ar"
	printf '#!/bin/sh\nexec "%s" ranlib "$@"\n' "$zig" >"$work/bin/ranlib"
	chmod +x "$work/bin/"*
}

build_sodium() {
	[ -e "$work/lib/libsodium.a" ] && return
	say "$arch: libsodium"
	rm -rf "$work/sodium" && mkdir "$work/sodium"
	tar xzf "$src/vendor/libsodium-sys-stable/LATEST.tar.gz" -C "$work/sodium" --strip-components=1
	(cd "$work/sodium" &&
		./configure --quiet --host="$machine-linux-gnu" --prefix="$work" --disable-shared --enable-static --with-pic \
			CC="$work/bin/cc" AR="$work/bin/ar" RANLIB="$work/bin/ranlib" CFLAGS=-O2 &&
		make -j"$jobs" && make install) >"$work/sodium.log" 2>&1 || { tail -20 "$work/sodium.log" >&2; fail "$arch: libsodium does not build"; }
}

# build_zmq compiles libzmq with platform.hpp in place of what its build would find out, without WebSockets.
build_zmq() {
	[ -e "$work/lib/libzmq.a" ] && return
	say "$arch: libzmq"
	local zmq=$src/vendor/zeromq-src/vendor
	mkdir -p "$work/zmq"
	export work zmq here=$PWD/scripts/dist
	ls "$zmq"/src/*.cpp | grep -vE '/wss?_' | xargs -P"$jobs" -I{} sh -c '"$work/bin/c++" -std=c++11 -O2 -fPIC -DNDEBUG -DZMQ_STATIC \
		-D_GNU_SOURCE -D_REENTRANT -D_THREAD_SAFE -DZMQ_CUSTOM_PLATFORM_HPP -I"$here" -I"$work/include" -I"$zmq/include" -I"$zmq/src" \
		-Wno-everything -c "{}" -o "$work/zmq/$(basename "{}").o"' || fail "$arch: libzmq does not build"
	cp "$zmq"/include/zmq*.h "$work/include/"
	"$work/bin/ar" rcs "$work/lib/libzmq.a" "$work/zmq/"*.o
	mkdir -p "$work/lib/pkgconfig"
	cat >"$work/lib/pkgconfig/libzmq.pc" <<-END
		Name: libzmq
		Description: ZeroMQ
		Version: 4.3.5
		Cflags: -I$work/include -DZMQ_STATIC
		Libs: -L$work/lib -lzmq -lsodium -lc++ -lpthread -lrt -lm
	END
}

build_frond() {
	say "$arch: frond"
	PKG_CONFIG_LIBDIR=$work/lib/pkgconfig CC=$work/bin/cc CXX=$work/bin/c++ CGO_ENABLED=1 GOOS=linux GOARCH=$arch \
		go build -trimpath -ldflags "-s -w -X main.version=$version -linkmode external" -o "$work/frond" ./cmd/frond
}

# pack makes the tarball, the same bytes from the same sources.
pack() {
	local name=frond-$version-linux-$arch
	rm -rf "${work:?}/$name"
	mkdir -p "$work/$name/bin" "$work/$name/share/man" "$work/$name/share/doc/frond/licences"
	cp "$work/frond" "$work/$name/bin/"
	cp -r bin/man/. "$work/$name/share/man/"
	mkdir -p "$work/$name/share/bash-completion/completions" "$work/$name/share/zsh/site-functions" "$work/$name/share/fish/vendor_completions.d"
	cp bin/completion/frond.bash "$work/$name/share/bash-completion/completions/frond"
	cp bin/completion/frond.zsh "$work/$name/share/zsh/site-functions/_frond"
	cp bin/completion/frond.fish "$work/$name/share/fish/vendor_completions.d/frond.fish"
	cp README.md LICENSE "$work/$name/share/doc/frond/"
	[ ! -d docs ] || cp -r docs/. "$work/$name/share/doc/frond/"
	cp "$src/vendor/zeromq-src/vendor/LICENSE" "$work/$name/share/doc/frond/licences/libzmq"
	cp "$work/sodium/LICENSE" "$work/$name/share/doc/frond/licences/libsodium"
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@"$stamp" -C "$work" -cf - "$name" | gzip -n -9 >"$dist/$name.tar.gz"
	rm -rf "${work:?}/$name"
	say "dist/$name.tar.gz"
}

mkdir -p "$cache"
need go "see README.md"
need pkg-config "Debian: apt-get install pkg-config"
stamp=$(git log -1 --format=%ct 2>/dev/null || date +%s)
fetch_zig
fetch_sources
[ $# -gt 0 ] || set -- amd64 arm64
for arch in "$@"; do
	case $arch in
	amd64) machine=x86_64 ;;
	arm64) machine=aarch64 ;;
	*) fail "no architecture $arch: there are amd64 and arm64" ;;
	esac
	work=$cache/$arch
	mkdir -p "$work/lib" "$work/include"
	tools "$machine-linux-gnu.$glibc"
	build_sodium
	build_zmq
	build_frond
	pack
done
(cd "$dist" && sha256sum frond-*.tar.gz >SHA256SUMS)
