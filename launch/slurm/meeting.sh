# The processes meet at the first node, at the address by which Slurm knows it: no DNS
# is needed. The port is the one that jax would choose.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" | grep -o 'NodeAddr=[^ ]*' | cut -d = -f 2)
export JAX_COORDINATOR_ADDRESS="${address:-$first}:$((61440 + SLURM_JOB_ID % 4096))"
