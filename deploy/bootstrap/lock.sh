#!/bin/sh
# Resolve pyproject.toml into lock files that carry versions and hashes, and no addresses.
set -eu
cd "$(dirname "$0")/../.."
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --no-header "$@"
}
compile pyproject.toml --group build -o deploy/requirements/runtime.txt
compile pyproject.toml --group dev -c deploy/requirements/runtime.txt -o deploy/requirements/dev.txt
if grep -nE '://|--index|--find-links' deploy/requirements/*.txt; then
    echo "a lock file names an address" >&2
    exit 1
fi
