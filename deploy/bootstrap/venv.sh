#!/bin/sh
# Make .venv from a hash-locked requirements file; do nothing if it already matches.
# usage: deploy/bootstrap/venv.sh runtime|dev
set -eu
cd "$(dirname "$0")/../.."
which=$1
lock=deploy/requirements/$which.txt
stamp=.venv/.turnout-$which

# A dev environment contains the runtime one.
want=$(cat "$lock" pyproject.toml | cksum)
for have in .venv/.turnout-dev "$stamp"; do
    if [ -f "$have" ] && [ "$which" != dev -o "$have" = "$stamp" ]; then
        wanted=$want
        [ "$have" = "$stamp" ] || wanted=$(cat deploy/requirements/dev.txt pyproject.toml | cksum)
        [ "$(cat "$have")" = "$wanted" ] && exit 0
    fi
done

# The newest of the Pythons found that is 3.11 or later; PYTHON=... overrides.
if [ -z "${PYTHON:-}" ]; then
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            PYTHON=$candidate
            break
        fi
    done
fi
if [ -z "${PYTHON:-}" ]; then
    echo "Turnout needs Python 3.11 or later; none was found on PATH." >&2
    exit 1
fi

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    echo "creating .venv with $($PYTHON --version)"
    rm -rf .venv
    # Debian splits ensurepip off into python3-venv; the pip wheel beside this script stands in for it.
    "$PYTHON" -m venv --without-pip .venv
fi
pip=$(echo deploy/bootstrap/pip-*.whl)
echo "installing $lock"
.venv/bin/python "$pip/pip" install --quiet --disable-pip-version-check --require-hashes -r "$lock"
.venv/bin/python "$pip/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
echo "$want" >"$stamp"
