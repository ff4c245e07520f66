#!/bin/bash
#SBATCH --job-name={{name}}
#SBATCH --account={{account}}
#SBATCH --partition={{partition}}
#SBATCH --qos={{qos}}
#SBATCH --constraint={{constraint}}
#SBATCH --reservation={{reservation}}
#SBATCH --nodes={{nodes}}
#SBATCH --ntasks-per-node={{tasks_per_node}}
#SBATCH --gpus-per-node={{gpus}}
#SBATCH --cpus-per-task={{cpus_per_task}}
#SBATCH --mem={{memory}}
#SBATCH --time={{time}}
#SBATCH --array={{array}}
#SBATCH --output={{log}}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@{{grace}}
#SBATCH {{options}}

{{setup}}
{{meeting}}
export JAX_COORDINATOR_ADDRESS={{coordinator}}:$((61440 + SLURM_JOB_ID % 4096))
export JAX_LOCAL_DEVICE_IDS={{local_device_ids}}

trap : TERM # this shell has to outlive the run, which saves
{{srun}} {{command}}
code=$?
job={{job}}
failures={{folder}}/failures-$job
case $code in
0 | 2 | 78) exit "$code" ;; # done, or wrong options, config or data
75) ;;                      # saved: the same command goes on
*)                          # perhaps another node was lost: go on, but not for ever
    echo "$code" >>"$failures"
    [ "$(wc -l <"$failures")" -le {{restarts}} ] || exit "$code"
    ;;
esac
# `scancel` ends a job for good.
case $(squeue --noheader --jobs="$job" --format='%T %r') in
"RUNNING "* | *" TimeLimit") scontrol requeue "$job" ;;
esac
exit "$code"
