#!/usr/bin/env bash
# Everything that has to hold before a change is merged, on a Debian machine with Rust. Installs only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Debian packages the tests need, each with a command that shows whether it is there.
install_missing() {
    local missing=() sudo=()
    local pair
    for pair in nc:netcat-openbsd strace:strace python3:python3 mkfs.ext4:e2fsprogs mount:mount; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "test.sh: please install ${missing[*]}" >&2
        exit 1
    fi
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}

step() {
    echo "== $*"
    "$@"
}

install_missing
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

step cargo fmt --check
step cargo clippy --locked --all-targets --all-features -- -D warnings
step cargo test --locked --all-features
export RUSTDOCFLAGS=-Dwarnings
step cargo doc --locked --no-deps --document-private-items
step cargo bench --locked --no-run
echo "== all passed"
