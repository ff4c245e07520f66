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
if [ "$code" -eq 75 ]; then # saved: the same command goes on
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
