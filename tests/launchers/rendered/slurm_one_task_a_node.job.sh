#!/bin/bash
#SBATCH --job-name=one
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --output='/shared/runs/first run/launch/slurm-%j.out'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120

module load cuda
source venv/bin/activate
export JAX_COORDINATOR_ADDRESS=10.0.0.1:$((61440 + SLURM_JOB_ID % 4096))
export JAX_LOCAL_DEVICE_IDS=0,1,2,3

trap : TERM # this shell has to outlive the run, which saves
srun --kill-on-bad-exit=0 clipin train clip:data=gs://bucket/coco total_steps=20_000 --workdir '/shared/runs/first run'
code=$?
# 75: it has saved, and the same command goes on, unless `scancel` has ended the job.
job=$SLURM_JOB_ID
case "$code $(squeue --noheader --jobs="$job" --format='%T %r')" in
"75 RUNNING "* | "75 "*" TimeLimit") scontrol requeue "$job" ;;
esac
exit "$code"
