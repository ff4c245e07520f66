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
# 75: it has saved, and the same command goes on, unless `scancel` has ended the job.
job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
case "$code $(squeue --noheader --jobs="$job" --format='%T %r')" in
"75 RUNNING "* | "75 "*" TimeLimit") scontrol requeue "$job" ;;
esac
exit "$code"
