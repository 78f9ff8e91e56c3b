#!/bin/sh
# Prints the pinned versions of an environment, without perfmodel itself: tools/freeze.sh PYTHON "what they are for"
set -eu
echo "# Pinned versions of $2. Written by make lock."
"$1" -m pip freeze | grep -v -i '^perfmodel\b' | LC_ALL=C sort -f
