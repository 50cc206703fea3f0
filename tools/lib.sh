# shellcheck shell=bash
# What the scripts share: where things are, what is said, and how what is missing gets installed.
# Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by those who source this
target_dir=${CARGO_TARGET_DIR:-$root/target}

# Logs and progress go to stderr, as the program's own do.
say() { printf '==> %s\n' "$*" >&2; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# need PACKAGE...: installs Debian packages, as root on Debian; otherwise says what is wanted.
need() {
    (($# > 0)) || return 0
    if ! have apt-get; then
        fail "please install: $*"
    fi
    if ((EUID != 0)); then
        fail "please install what is missing: sudo apt-get install $*"
    fi
    say "installing $* (apt)"
    local log
    log=$(mktemp)
    if ! apt_install "$@" >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        fail "apt could not install $*"
    fi
    rm -f "$log"
}

apt_install() {
    # Installed, not started: nothing that listens shall appear on the machine because a test wants its program.
    local policy=/usr/sbin/policy-rc.d made='' status=0
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=$policy
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } || status=$?
    [[ -z $made ]] || rm -f "$made"
    return "$status"
}

# need_commands COMMAND:PACKAGE...: installs the packages of the commands that are missing.
need_commands() {
    local pair packages=()
    for pair in "$@"; do
        if ! have "${pair%%:*}" && [[ " ${packages[*]} " != *" ${pair#*:} "* ]]; then
            packages+=("${pair#*:}")
        fi
    done
    need "${packages[@]}"
}

need_cargo() {
    if ! have cargo && [[ -x ${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo ]]; then
        PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"
        export PATH
    fi
    have cargo || fail "cargo is missing: install Rust as https://rustup.rs says, then run this again"
    # A C compiler links, and builds the C parts together with cmake.
    need_commands cc:gcc make:make cmake:cmake
    # The compiler alone is not enough: headers and start files come with libc6-dev.
    if have dpkg-query && ! dpkg-query -W libc6-dev >/dev/null 2>&1; then
        need libc6-dev
    fi
}

# need_component NAME: a part of the Rust toolchain that a minimal installation leaves out.
need_component() {
    cargo "${1/rustfmt/fmt}" --version >/dev/null 2>&1 && return
    have rustup || fail "$1 is missing: install it with your Rust toolchain"
    say "installing $1 (rustup)"
    (cd "$root" && rustup component add "$1" </dev/null)
}

# need_python_environment REQUIREMENTS: a virtual environment with these packages, made once for each version of the
# file and kept with what else is built; its folder is python_environment.
python_environment=
need_python_environment() {
    need_commands python3:python3
    # Debian has this part of Python in a package of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
    local name
    name=$(python3 --version && cat "$1")
    name=$(sha256sum <<<"$name")
    python_environment=$target_dir/python/${name:0:16}
    [[ -e $python_environment/complete ]] && return
    say "making a Python environment of $1"
    rm -rf "$python_environment"
    python3 -m venv "$python_environment" </dev/null
    "$python_environment/bin/python" -m pip --disable-pip-version-check install --quiet --require-hashes -r "$1" </dev/null
    touch "$python_environment/complete"
}

# The proxy, as users run it.
build_longshore() {
    need_cargo
    say "building longshore (release)"
    (cd "$root" && cargo build --release -p longshore </dev/null)
}

have_engine() { have docker && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1 </dev/null; }

# start_engine: makes a Docker engine answer. Whoever calls it calls stop_engine at its end: one that was there before
# is left alone.
engine_pid=
engine_log=
start_engine() {
    have_engine && return
    [[ -z ${DOCKER_HOST:-} ]] || fail "the Docker engine at $DOCKER_HOST does not answer"
    if ((EUID != 0)) || ! have apt-get; then
        fail "no Docker engine answers: start one, or let root on Debian run this"
    fi
    need_commands dockerd:docker.io docker:docker.io iptables:iptables
    have_engine && return
    remove_stale_pid /var/run/docker.pid
    remove_stale_pid /var/run/docker/containerd/containerd.pid
    say "starting a Docker engine"
    engine_log=$(mktemp)
    setsid dockerd >"$engine_log" 2>&1 </dev/null &
    engine_pid=$!
    local tries
    for ((tries = 0; tries < 150; tries++)); do
        have_engine && return
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$engine_log" >&2
    fail "the Docker engine does not start"
}

# An engine refuses to start while the process of its pid file exists, whatever that process is.
remove_stale_pid() {
    [[ -f $1 ]] || return 0
    local pid
    pid=$(<"$1")
    if grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status" || ! grep -qsE '^(dockerd|containerd)$' "/proc/$pid/comm"; then
        rm -f "$1"
    fi
}

stop_engine() {
    [[ -n $engine_pid ]] || return 0
    say "stopping the Docker engine"
    kill "$engine_pid" 2>/dev/null || true
    wait "$engine_pid" 2>/dev/null || true
    rm -f "$engine_log"
    engine_pid=
}
