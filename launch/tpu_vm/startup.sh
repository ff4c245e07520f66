#!/bin/bash
# {{name}}: what each host runs when it starts, also when it starts again.
exec >>{{log}} 2>&1
set -u
export HOME=/root
cd /root || exit

{{mount}}
if ! [ -x venv/bin/clipin ]; then # the Python of the image is too old
    curl -LsSf https://astral.sh/uv/install.sh | sh
    .local/bin/uv venv --clear --python {{python}} venv
    .local/bin/uv pip install --python venv/bin/python {{install}} || exit
fi
export PATH=$HOME/venv/bin:$PATH

while true; do
    {{command}}
    code=$?
    echo "$(date): exit code $code"
    case $code in
    0 | 2 | 78) exit "$code" ;; # done, or wrong options, config or data
    *) sleep 60 ;;              # go on, unless this host is about to end
    esac
done
