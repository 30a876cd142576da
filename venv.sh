#!/bin/sh
# Make a virtual environment with the pinned versions, once, and again when the pins change.
#   ./venv.sh FOLDER [PYTHON]      PYTHON: default is the newest of 3.12 and 3.11 that really runs
set -eu

folder=$1
python=${2:-}
fail() { echo "error: $*" >&2; exit 1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

if [ -z "$python" ]; then
    # A name on PATH may be a version manager's shim that only prints an error, so each candidate is run.
    for wanted in 3.12 3.11; do
        for candidate in "python$wanted" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted".*/bin/python; do
            if [ "$(version "$candidate")" = "$wanted" ]; then python=$(command -v "$candidate"); break 2; fi
        done
    done
    [ -n "$python" ] || fail "no Python 3.12 or 3.11 runs here; install one, or name one: make test PYTHON=/path/to/python3.12"
fi

found=$(version "$python") || fail "$python does not run"
pins=constraints/py$(echo "$found" | tr -d .).txt
[ -f "$pins" ] || fail "Python $found is not supported ($python); use 3.12, 3.11 or 3.10"

stamp=$(cat "$pins" setup.py venv.sh | cksum)-$found-$(pwd)/$folder
[ "$(cat "$folder/.stamp" 2>/dev/null)" = "$stamp" ] && exit 0

# Everything that can be known to fail is said before anything is downloaded.
free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
[ "$free" -ge 8 ] || fail "$free GiB free here, 8 GiB are needed for the environment (torch with CUDA); free some, or move the clone"
if [ "$found $(uname -sm)" != "3.12 Linux x86_64" ]; then
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    command -v g++ >/dev/null 2>&1 && [ -f "$include/Python.h" ] ||
        fail "Python $found on $(uname -sm) needs g++ and Python.h to build fairseq (apt-get install g++ python$found-dev); 3.12 on Linux x86_64 needs neither"
fi

echo "making $folder with Python $found ($python); the first time downloads about 3 GB"
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    uv=.uv/bin/uv
    if [ ! -x "$uv" ]; then
        "$python" -m venv .uv 2>/dev/null || fail "$python cannot make a virtual environment (apt-get install python$found-venv), and uv is not on PATH"
        .uv/bin/python -m pip install --quiet "uv>=0.9" || fail "uv cannot be installed: is a package index reachable?"
    fi
fi
rm -rf "$folder"
export UV_PYTHON_DOWNLOADS=never
"$uv" venv --quiet --python "$python" "$folder"
# Compiled once, here: where nothing may write into the environment, every start would compile all of torch and fairseq again.
install() { "$uv" pip install --quiet --compile-bytecode --python "$folder/bin/python" --no-deps "$@"; }
# Every file is checked against the pins' hashes, what sources are built with too. fairseq-fixed builds against the
# installed torch, which uv installs first; isolated, its build would download another. fairseq 0.12.2 must be isolated.
install --require-hashes --build-constraints "$pins" --no-build-isolation-package fairseq-fixed --requirements "$pins"
install --no-build-isolation --editable .
echo "$stamp" >"$folder/.stamp"
