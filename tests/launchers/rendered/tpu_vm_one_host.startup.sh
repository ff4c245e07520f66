#!/bin/bash
# one: what each host runs when it starts, also when it starts again.
exec >>/var/log/clipin.log 2>&1
set -u
export HOME=/root
cd /root || exit

if ! [ -x venv/bin/clipin ]; then # the Python of the image is too old
    curl -LsSf https://astral.sh/uv/install.sh | sh
    .local/bin/uv venv --clear --python 3.12 venv
    .local/bin/uv pip install --python venv/bin/python 'clipin_jax[tpu,remote]' || exit
fi
export PATH=$HOME/venv/bin:$PATH

while true; do
    clipin train clip:data=gs://bucket/coco total_steps=20_000 --workdir gs://bucket/runs/one
    code=$?
    echo "$(date): exit code $code"
    case $code in
    0 | 2 | 78) exit "$code" ;; # done, or wrong options, config or data
    *) sleep 60 ;;              # go on, unless this host is about to end
    esac
done
