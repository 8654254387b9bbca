#!/bin/sh
# Finds a Python for the virtual environment: `sh demo/python.sh [PYTHON]` prints its path,
# or one line that begins with "error:" and says what to install.
wanted=$1

version_of() {
    # Old Pythons run this too.
    "$1" -c 'import sys; sys.stdout.write("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

if [ -n "$wanted" ]; then
    python=$wanted
else
    python=python3
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if is_new_enough "$candidate"; then python=$candidate; break; fi
    done
fi

version=$(version_of "$python")
if [ -z "$version" ]; then
    problem="there is no Python '$python'"
elif ! is_new_enough "$python"; then
    problem="'$python' is Python $version"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "error: '$python' (Python $version) has no venv module; install it" \
        "(Debian, Ubuntu: sudo apt install python$version-venv)"
    exit 0
else
    command -v "$python"
    exit 0
fi
echo "error: $problem; install Python 3.11 or newer" \
    "(Debian, Ubuntu: sudo apt install python3 python3-venv; Fedora: sudo dnf install python3;" \
    "macOS: brew install python3) or name one: make demo PYTHON=/path/to/python3.11"
