#!/usr/bin/env bash
# Installs what the tests need from Debian's packages, builds the release executable and runs every
# test. Needs root, the Rust toolchain and a Debian system; prints the totals last.
#
#   ./tests/run.sh              everything
#   ./tests/run.sh NAME...      only these integration tests (files of tests/ without .rs)
#   ./tests/run.sh --prepare    nothing yet: installs and builds the release executable
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(gcc libc6-dev musl-tools busybox-static iproute2 nftables iptables docker-registry skopeo
    curl python3 python3-venv openssl util-linux bsdutils procps xz-utils conntrack)
# Node.js from elsewhere is as good, and does not go together with Debian's.
command -v npm >/dev/null || PACKAGES+=(nodejs npm)
CACHE=${KEDGE_TEST_CACHE:-$PWD/target/test-cache}
mkdir -p "$CACHE"

missing=()
for package in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "run.sh: installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# kubectl: Debian sid's (bookworm's is too old), unpacked into the cache, for the matrix of versions; the
# other tests take the one on PATH, if there is one.
if [ ! -x "$CACHE/kubectl/usr/bin/kubectl" ]; then
    tests/fetch-kubectl.sh "$CACHE/kubectl"
fi
export KEDGE_TEST_KUBECTL="$CACHE/kubectl/usr/bin/kubectl"
command -v kubectl >/dev/null || export PATH="$CACHE/kubectl/usr/bin:$PATH"

# The clients of other languages, from PyPI and npm.
export KEDGE_TEST_CACHE="$CACHE"
tests/clients/install.sh "$CACHE/clients"

# The kernel of the virtual machine tests; built once, which takes some minutes, unless KEDGE_TEST_KERNEL names one.
KEDGE_TEST_KERNEL=$(tests/vm/kernel.sh)
export KEDGE_TEST_KERNEL

target=$(uname -m)-unknown-linux-musl
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
if [ -z "${KEDGE_BIN:-}" ]; then
    cargo build --release --locked --target "$target" --bin kedge
    KEDGE_BIN=${CARGO_TARGET_DIR:-$PWD/target}/$target/release/kedge
fi
export KEDGE_BIN
[ "${1:-}" != --prepare ] || exit 0

selection=()
for name in "$@"; do selection+=(--test "$name"); done
log=$(mktemp) guests_log=$(mktemp) guests=
trap 'rm -f "$log" "$guests_log"; [ -z "$guests" ] || kill "$guests" 2>/dev/null || true' EXIT
status=0
if [ $# -eq 0 ]; then
    cargo test --locked --no-run
    # Guests share nothing with the other tests, and take what processor time those leave while they wait.
    RUST_TEST_THREADS=3 nice -n 15 cargo test --locked --no-fail-fast --test node_vm >"$guests_log" 2>&1 &
    guests=$!
fi
cargo test --locked --no-fail-fast "${selection[@]}" 2>&1 | tee "$log" || status=$?
if [ -n "$guests" ]; then
    wait "$guests" || status=$?
    guests=
    tee -a "$log" <"$guests_log"
fi

awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
     END { printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored
           exit (failed > 0 || ignored > 0 || passed == 0) }' "$log" || status=1
exit "$status"
