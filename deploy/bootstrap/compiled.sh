#!/bin/sh
# Make .venv-compiled: this checkout's wheel with its hot modules compiled, beside the packages of .venv (a dev one);
# do nothing if it already matches the sources.
set -eu
cd "$(dirname "$0")/../.."
stamp=.venv-compiled/.turnout-compiled
want=$(find app backends config deploy/compiled pyproject.toml deploy/requirements/dev.txt -type f \
    ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs cat | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
    exit 0
fi
echo "compiling the hot modules into .venv-compiled: a minute or two"
pip=$(echo deploy/bootstrap/pip-*.whl)
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
rm -rf .venv-compiled
TURNOUT_COMPILE=1 .venv/bin/python "$pip/pip" wheel --quiet --disable-pip-version-check --no-deps \
    --no-build-isolation -w "$wheels" .
.venv/bin/python -m venv --without-pip .venv-compiled
.venv-compiled/bin/python "$pip/pip" install --quiet --disable-pip-version-check --no-deps "$wheels"/*.whl
# Packages are .venv's. The checkout comes last, for its tests and benchmarks: app and backends are the wheel's.
where='import sysconfig; print(sysconfig.get_path("purelib"))'
{ .venv/bin/python -c "$where"; pwd; } >"$(.venv-compiled/bin/python -c "$where")/turnout-checkout.pth"
echo "$want" >"$stamp"
