# %% [markdown] extras=["plan"]
# # From a laptop to a TPU pod
#
# Plan a run for machines that are not here, then write the job that starts it. The compiler of
# TPUs works without a TPU. Times are modelled, not measured.

# %% tags=["parameters"] quick={"model": "clip:runlocal", "batch": 64, "chips": "v5e:2x2", "bigger": "v5e:2x2"}
model = "clip:variant=S/16"
batch = 2048
chips = "v5e:4x4"
bigger = "v5e:8x8"

# %% [markdown]
# ## Does it fit on 16 chips?
#
# The step is compiled for v5e. The plan prints memory, collectives and a modelled time for each
# chip. No data are read.

# %%
options = "model.dtype=bfloat16 model.remat.image=full model.remat.text=full"
# !clipin plan {model} batch_size={batch} {options} --on {chips} --quick

# %% [markdown]
# ## The same with CLIPin, on more chips

# %%
# !clipin plan {model},clipin batch_size={batch} {options} --on {bigger} --quick

# %% [markdown]
# ## The job
#
# The same command with another engine writes a job for Slurm, for TPU slices on GKE, for TPU VMs or
# for SkyPilot. `--dry-run` prints it and submits nothing. Without it, the job is submitted by the
# scheduler's own client, and `clipin launch status`, `logs` and `stop` follow it.

# %%
tpu = f"--set tpu={chips} --set image=IMAGE --workdir gs://bucket/runs/one"
# !clipin launch {model},data=gs://bucket/coco batch_size={batch} {options} --on jobset {tpu} --dry-run

# %%
# !clipin launch {model},data=/shared/coco --on slurm --nodes 2 --gpus 8 --time 12:00:00 \
#     --workdir runs/slurm --dry-run

# %% [markdown]
# ## First on this machine
#
# `runlocal` is the same page with two narrow layers and a few steps: it finds mistakes in a config
# before a machine is paid for.

# %%
# !clipin train clip:clipin,runlocal --workdir runs/local | tail -3
