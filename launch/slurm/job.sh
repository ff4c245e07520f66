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
# 75: it has saved, and the same command goes on, unless `scancel` has ended the job.
job={{job}}
case "$code $(squeue --noheader --jobs="$job" --format='%T %r')" in
"75 RUNNING "* | "75 "*" TimeLimit") scontrol requeue "$job" ;;
esac
exit "$code"
