#!/bin/bash
#SBATCH --job-name=one
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --mem=64G
#SBATCH --array=0-3
#SBATCH --output='/shared/runs/first run/launch/slurm-%A_%a.out'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120

true

trap : TERM # this shell has to outlive the run, which saves
srun --kill-on-bad-exit=0 clipin train clip:data=gs://bucket/coco total_steps=20_000 --workdir '/shared/runs/first run'
code=$?
job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
failures='/shared/runs/first run/launch'/failures-$job
case $code in
0 | 2 | 78) exit "$code" ;; # done, or wrong options, config or data
75) ;;                      # saved: the same command goes on
*)                          # perhaps another node was lost: go on, but not for ever
    echo "$code" >>"$failures"
    [ "$(wc -l <"$failures")" -le 3 ] || exit "$code"
    ;;
esac
# `scancel` ends a job for good.
case $(squeue --noheader --jobs="$job" --format='%T %r') in
"RUNNING "* | *" TimeLimit") scontrol requeue "$job" ;;
esac
exit "$code"
