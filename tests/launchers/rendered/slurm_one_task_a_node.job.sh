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
if [ "$code" -eq 75 ]; then # saved: the same command goes on
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
