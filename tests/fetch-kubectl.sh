#!/usr/bin/env bash
# Unpacks kubectl from Debian sid's kubernetes-client into the directory $1, without installing
# anything: sid is a source of its own here, at the mirror this machine already uses.
set -euo pipefail
to=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } |
    grep -Eo 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ')
[ -n "$mirror" ] || { echo "fetch-kubectl: no Debian mirror in /etc/apt/sources.list*" >&2; exit 1; }
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$to"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
options=(-o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::State::status=/dev/null
    -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -qq
# kubernetes-client is empty and depends on the package of the current version.
package=$(apt-cache "${options[@]}" depends kubernetes-client | sed -n 's/^ *Depends: //p' | head -n 1)
(cd "$work" && apt-get "${options[@]}" download -qq "${package:-kubernetes-client}")
dpkg-deb -x "$work"/*.deb "$to"
binary=$(find "$to" -type f -name 'kubectl*' -perm -u+x | head -n 1)
[ -n "$binary" ] || { echo "fetch-kubectl: no kubectl in ${package:-kubernetes-client}" >&2; exit 1; }
mkdir -p "$to/usr/bin"
[ -e "$to/usr/bin/kubectl" ] || ln -s "$binary" "$to/usr/bin/kubectl"
"$to/usr/bin/kubectl" version --client
