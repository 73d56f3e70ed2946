#!/usr/bin/env bash
# Prints the path of the test kernel: KEDGE_TEST_KERNEL (a .uml, or a .uml.xz that is unpacked into the
# cache), else the one in the cache, which is built when it is not there yet.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
cache=${KEDGE_TEST_CACHE:-$here/../../target/test-cache}
given=${KEDGE_TEST_KERNEL:-}
mkdir -p "$cache"
cache=$(readlink -f "$cache")
case $given in
'') kernel=$cache/linux-6.12.uml ;;
*.xz) kernel=$cache/$(basename "$given" .xz) ;;
*) readlink -f "$given" && exit ;;
esac
# Several tests may ask at once.
exec 9>"$cache/kernel.lock"
flock 9
if [ -n "$given" ] && [ "$given" -nt "$kernel" ]; then
    xz -dc "$given" >"$kernel.new"
    chmod +x "$kernel.new"
    mv "$kernel.new" "$kernel"
elif [ ! -x "$kernel" ]; then
    echo "kernel.sh: building the test kernel; KEDGE_TEST_KERNEL may name a ready one" >&2
    "$here/build-kernel.sh" "$kernel" >&2
fi
echo "$kernel"
