#!/bin/sh
# Verify this wheelhouse and install smrfed from it into a new virtual environment. No network.
#
#   sh install.sh /opt/smrfed/0.1.0                # or: PYTHON=python3.12 sh install.sh ...
#
# First compare by another way (telephone): sha256sum SHA256SUMS
set -eu

if [ "$#" -ne 1 ]; then
    echo "usage: sh install.sh NEW_FOLDER" >&2
    exit 2
fi
case $1 in
    /*) target=$1 ;;
    *) target=$(pwd)/$1 ;;
esac
if [ -e "$target" ]; then
    echo "$target exists: name a new folder, and switch to it when it works" >&2
    exit 1
fi
cd "$(dirname "$0")"

# Every file is one that was listed, and every listed file is what it was.
sha256sum --check --strict --quiet SHA256SUMS
listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS | sort)
present=$(find . -type f ! -name SHA256SUMS | sed 's|^\./||' | sort)
if [ "$listed" != "$present" ]; then
    echo "this folder holds files that SHA256SUMS does not list" >&2
    exit 1
fi

python=${PYTHON:-python3}
wanted=$(sed -n 's/^ "python": "\(.*\)",$/\1/p' manifest.json)
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$wanted" != "$found" ]; then
    echo "these wheels are for Python $wanted, and $python is $found: set PYTHON" >&2
    exit 1
fi

"$python" -m venv "$target"
# PIP_CONFIG_FILE: no index, proxy or option of this machine takes part.
PIP_CONFIG_FILE=/dev/null "$target/bin/python" -m pip --isolated --disable-pip-version-check \
    install --quiet --no-index --find-links wheels --no-deps --only-binary :all: \
    --require-hashes --requirement requirements.txt
"$target/bin/python" -m pip --isolated --disable-pip-version-check check
echo "installed in $target"
