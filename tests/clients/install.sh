#!/usr/bin/env bash
# Installs the clients the tests use into the directory $1, once: Python's `kubernetes` from PyPI in a
# virtual environment, JavaScript's `@kubernetes/client-node` from npm.
set -euo pipefail
to=$1
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -e "$to/python/done" ]; then
    rm -rf "$to/python"
    mkdir -p "$to"
    python3 -m venv "$to/python"
    "$to/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"
    touch "$to/python/done"
fi
if [ ! -e "$to/javascript/done" ]; then
    rm -rf "$to/javascript"
    mkdir -p "$to/javascript"
    cp "$here/javascript/package.json" "$to/javascript/"
    (cd "$to/javascript" && npm install --silent --no-audit --no-fund --ignore-scripts)
    touch "$to/javascript/done"
fi
