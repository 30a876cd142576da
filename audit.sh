#!/bin/sh
# Ask for the known vulnerabilities of every pin, by hand and on release; no test waits for it.
#   ./audit.sh FOLDER [ARGUMENTS]     FOLDER: the environment with pip-audit; ARGUMENTS: its, such as --vulnerability-service osv
# Ends with 0 for none, 1 for some that constraints/audit-ignore.txt does not name, 2 where there was no answer.
set -eu

tool=$1/bin/pip-audit
shift
answer=$(mktemp)
trap 'rm -f "$answer" "$answer.log"' EXIT
ignored=$(sed -n 's/^\([^# ][^ ]*\) .*/--ignore-vuln \1/p' constraints/audit-ignore.txt)

found=0
for pins in constraints/py*.txt constraints/release.txt; do
    : >"$answer"
    # --strict: a pin that the service does not know was not examined, and is no pass.
    # shellcheck disable=SC2086
    if "$tool" --strict --disable-pip --require-hashes --progress-spinner off --output "$answer" --requirement "$pins" \
        $ignored "$@" 2>"$answer.log"; then
        echo "$pins: none known"
    elif [ -s "$answer" ]; then
        echo "$pins:"
        cat "$answer"
        found=1
    else
        tail -n 1 "$answer.log" >&2
        echo "error: $pins: no result; the service of known vulnerabilities did not answer for every pin" >&2
        exit 2
    fi
done
[ "$found" = 0 ] || echo "error: upgrade these, or review each in constraints/audit-ignore.txt" >&2
exit "$found"
