#!/bin/bash
# Asks for TPU VMs, and asks again when they are lost, until the run is done.
# `bash job.sh create` asks once; `bash job.sh watch` goes on from there.
set -u
here=$(cd "$(dirname "$0")" && pwd)
names="{{names}}"
place=(--project={{project}} --zone={{zone}})

create() { # $1: the name of the queued resource
    local name=$1
    gcloud compute tpus queued-resources create "$name" "${place[@]}" --async \
        --accelerator-type={{accelerator}} \
        --runtime-version={{runtime}} \
        {{one_node}} \
        {{nodes}} \
        {{spot}} \
        --network={{network}} \
        --service-account={{account}} \
        --metadata-from-file=startup-script="$here/startup.sh"
}

delete() {
    gcloud compute tpus queued-resources delete "$1" "${place[@]}" --force --quiet
}

state() {
    gcloud compute tpus queued-resources describe "$1" "${place[@]}" \
        --format='value(state.state)'
}

if [ "${1:-}" = create ]; then
    made=()
    for name in $names; do
        if ! create "$name"; then # all or nothing
            for other in "${made[@]}"; do delete "$other"; done
            exit 1
        fi
        made+=("$name")
    done
    exit 0
fi

attempts={{attempts}}
while sleep 60; do
    if gcloud storage ls {{done}} >/dev/null 2>&1; then
        echo "$(date): the run is done"
        for name in $names; do delete "$name"; done
        exit 0
    fi
    for name in $names; do
        case $(state "$name") in
        SUSPENDED | FAILED) # preempted, or never granted
            if [ "$((attempts -= 1))" -lt 0 ]; then
                echo "$(date): $name was lost too often"
                exit 1
            fi
            echo "$(date): $name was lost, asking again"
            delete "$name" && create "$name"
            ;;
        esac
    done
done
