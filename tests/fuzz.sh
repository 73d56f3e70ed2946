#!/usr/bin/env bash
# Runs every fuzz target of fuzz/ for a bounded time. A stable compiler will do: only the project is
# compiled with libFuzzer's coverage (fuzz/instrument), its dependencies are those of the tests.
#
#   ./tests/fuzz.sh [SECONDS [TARGET...]]     20 seconds for each target unless said otherwise
#
# What a run finds lies in target/fuzz-artifacts; run it again with target/debug/TARGET FILE. Inputs worth
# keeping belong to fuzz/corpus/TARGET.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-20}
shift || true
if ! command -v g++ >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends g++ >/dev/null
fi
cargo clippy --locked -p kedge-fuzz -- -D warnings
RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/instrument cargo build --locked -p kedge-fuzz

target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target/fuzz-artifacts"
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs one target; what it learns goes to the first directory, which is not kept.
fuzz() {
    local name=$1 log=$work/$1.log runs
    mkdir "$work/$name"
    if ! "$target/debug/$name" -max_total_time="$seconds" -timeout=10 -max_len=4096 -verbosity=0 -print_final_stats=1 \
        -artifact_prefix="$target/fuzz-artifacts/$name-" "$work/$name" "fuzz/corpus/$name" >"$log" 2>&1; then
        echo "fuzz $name: FAILED"
        tail -n 40 "$log"
        return 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $name: $runs runs, nothing found"
    [ "${runs:-0}" -gt 0 ]
}

# As many at a time as there are processors.
failed=0 running=()
for name in "${targets[@]}"; do
    if [ ${#running[@]} -ge "$(nproc)" ]; then
        wait "${running[0]}" || failed=$((failed + 1))
        running=("${running[@]:1}")
    fi
    fuzz "$name" &
    running+=($!)
done
for one in "${running[@]}"; do
    wait "$one" || failed=$((failed + 1))
done
echo "fuzz: ${#targets[@]} targets, $failed failed"
[ "$failed" -eq 0 ]
