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
if [ "$code" -eq 75 ]; then # saved: the same command goes on
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
