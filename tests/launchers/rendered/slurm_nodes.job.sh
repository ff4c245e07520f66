#!/bin/bash
#SBATCH --job-name=one
#SBATCH --account=vision
#SBATCH --partition=gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=12:00:00
#SBATCH --output='/shared/runs/first run/launch/slurm-%j.out'
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --exclusive
#SBATCH --licenses=nas@here

# The processes meet at the first node, at the address by which Slurm knows it: no DNS
# is needed. The port is the one that jax would choose.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" | grep -o 'NodeAddr=[^ ]*' | cut -d = -f 2)
export JAX_COORDINATOR_ADDRESS="${address:-$first}:$((61440 + SLURM_JOB_ID % 4096))"

trap : TERM # this shell has to outlive the run, which saves
srun --kill-on-bad-exit=0 --cpus-per-task=12 '--container-image=registry#team/clipin:1' --container-mounts=/shared:/shared clipin train clip:data=gs://bucket/coco total_steps=20_000 --workdir '/shared/runs/first run'
code=$?
job=$SLURM_JOB_ID
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
