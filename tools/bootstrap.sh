#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what the build needs and this system lacks. Says what it will install before it does; silent and quick when
# nothing is missing. Debian/Ubuntu, Fedora, Arch, macOS with Homebrew; elsewhere it names what is missing.
# --with-ci adds what only CI uses (clang, qemu, the software GPU).
set -eu

with_ci=no
[ "${1:-}" = --with-ci ] && with_ci=yes

# kind:probe:apt:dnf:pacman:brew, where kind is cmd (a program) or lib (a pkg-config module). "-" in a column: part of another
# package there, or not needed. Optional parts (GPU by Vulkan) degrade with a message, but are cheap to have.
needs='
cmd:cc:gcc:gcc:gcc:-
cmd:git:git:git:git:git
cmd:meson:meson:meson:meson:meson
cmd:ninja:ninja-build:ninja-build:ninja:ninja
cmd:python3:python3:python3:python:python
cmd:pkg-config:pkg-config:pkgconf-pkg-config:pkgconf:pkgconf
lib:jansson:libjansson-dev:jansson-devel:jansson:jansson
lib:hwloc:libhwloc-dev:hwloc-devel:hwloc:hwloc
lib:sqlite3:libsqlite3-dev:sqlite-devel:sqlite:sqlite
lib:libcurl:libcurl4-openssl-dev:libcurl-devel:curl:curl
lib:libpcre2-8:libpcre2-dev:pcre2-devel:pcre2:pcre2
lib:cmocka:libcmocka-dev:libcmocka-devel:cmocka:cmocka
lib:vulkan:libvulkan-dev:vulkan-loader-devel:vulkan-headers:vulkan-headers
cmd:glslc:glslc:glslc:shaderc:shaderc
'
ci_needs='
cmd:clang:clang:clang:clang:-
cmd:clang-tidy:clang-tidy:clang-tools-extra:clang:-
cmd:clang-format:clang-format:clang-tools-extra:clang:-
cmd:vulkaninfo:vulkan-tools:vulkan-tools:vulkan-tools:-
cmd:qemu-aarch64:qemu-user:qemu-user:qemu-user:-
cmd:aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu:gcc-aarch64-linux-gnu:aarch64-linux-gnu-gcc:-
file:/usr/aarch64-linux-gnu/include/stdint.h:libc6-dev-arm64-cross:-:-:-
cmd:mandoc:mandoc:mandoc:mandoc:-
cmd:shellcheck:shellcheck:ShellCheck:shellcheck:-
file:/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.asan-*.a:libclang-rt-dev:compiler-rt:compiler-rt:-
file:/usr/share/vulkan/icd.d/lvp_icd*.json:mesa-vulkan-drivers:mesa-vulkan-drivers:vulkan-swrast:-
'
[ $with_ci = yes ] && needs="$needs$ci_needs"

if command -v apt-get > /dev/null; then column=3 install="apt-get install -y --no-install-recommends" refresh="apt-get update"
elif command -v dnf > /dev/null; then column=4 install="dnf install -y" refresh=""
elif command -v pacman > /dev/null; then column=5 install="pacman -S --needed --noconfirm" refresh=""
elif command -v brew > /dev/null; then column=6 install="brew install" refresh=""
else column=0 install="" refresh=""
fi

present() { # kind probe
    case $1 in
    cmd) command -v "$2" > /dev/null ;;
    lib) command -v pkg-config > /dev/null && pkg-config --exists "$2" ;;
    file) # shellcheck disable=SC2086 # the probe is a glob
        ls $2 > /dev/null 2>&1 ;;
    esac
}

missing="" packages=""
for need in $needs; do
    kind=$(echo "$need" | cut -d: -f1) probe=$(echo "$need" | cut -d: -f2)
    present "$kind" "$probe" && continue
    missing="$missing $probe"
    [ $column = 0 ] && continue
    package=$(echo "$need" | cut -d: -f$column)
    [ "$package" = - ] || packages="$packages $package"
done
[ -z "$missing" ] && exit 0
if [ $column = 0 ]; then
    echo "bootstrap: missing:$missing; no known package manager here, so install these by hand" >&2
    exit 4
fi
[ -z "$packages" ] && exit 0

as_root=""
if [ "$(id -u)" != 0 ] && [ $column != 6 ]; then
    if command -v sudo > /dev/null; then
        as_root=sudo
    else
        echo "bootstrap: missing:$missing; run as root: $install$packages" >&2
        exit 4
    fi
fi
echo "bootstrap: installing$packages" >&2
# shellcheck disable=SC2086 # lists of words
{
    [ -z "$refresh" ] || $as_root $refresh > /dev/null
    if [ $column = 3 ]; then $as_root env DEBIAN_FRONTEND=noninteractive $install $packages > /dev/null
    else $as_root $install $packages; fi
} || {
    echo "bootstrap: that failed; run it by hand to see why: $as_root $install$packages" >&2
    exit 4
}
