#!/bin/sh
# The official JavaScript clients that tests drive against a gateway, by their lock file. Quick when they are there.
set -eu
cd "$(dirname "$0")/../../tests/clients/js"
command -v npm >/dev/null 2>&1 || {
    echo "npm is not on PATH: the tests of JavaScript clients will skip" >&2
    exit 0
}
want=$(cksum package-lock.json)
[ -d node_modules ] && [ "$(cat node_modules/.stamp 2>/dev/null || true)" = "$want" ] && exit 0
echo "installing the JavaScript clients"
npm ci --silent --ignore-scripts --no-audit --no-fund
echo "$want" >node_modules/.stamp
