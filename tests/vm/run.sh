#!/usr/bin/env bash
# Runs a shell script as the job of a guest: a kernel of its own (User-mode Linux, an ordinary process) with
# pure cgroup v2, on this machine's root file system, of which it sees all but /tmp, /run and /dev and changes
# nothing. Prints what the job prints and ends with its status, or 97 when the guest ended without one.
# usage: run.sh [-m MEMORY] [-t SECONDS] [-s DIRECTORY] JOB.sh [kernel arguments]
#   -m  memory of the guest (2G)      -t  end the guest after so long (600)
#   -s  a directory under /tmp that the guest sees too
set -euo pipefail
here=$(dirname "$(readlink -f "$0")") memory=2G seconds=600 shared=
while getopts m:t:s: option; do
    case $option in
    m) memory=$OPTARG ;;
    t) seconds=$OPTARG ;;
    s) shared=$(readlink -f "$OPTARG") ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
job=$1
shift
kernel=$("$here/kernel.sh")
directory=$(mktemp -d "${TMPDIR:-/tmp}/kedge-vm.XXXXXX")
trap 'rm -rf "$directory"' EXIT
cp "$job" "$directory/job"
# The guest's memory is a file in TMPDIR. Its first console is the kernel's, the second is the job's. It does
# not end at a polite signal.
TMPDIR=/dev/shm HOME=${HOME:-/root} timeout -s KILL "$seconds" \
    "$kernel" mem="$memory" root=/dev/root rootfstype=hostfs hostfs=/ ro quiet init="$here/init.sh" \
    con=null con0=null,fd:2 con1=null,fd:1 jobdir="$directory" ${shared:+shared="$shared"} "$@" </dev/null || true
exit "$(cat "$directory/status" 2>/dev/null || echo 97)"
