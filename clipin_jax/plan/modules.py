"""Finds the module behind an instruction, from the path of names that jax gives it.

`jit(train_step)/transpose(jvp(Learner))/Learner._losses/towers.encode/image/
image.encode_patches/transformer/while/body/closed_call/blocks/mlp_in/dot_general`
is `image/transformer/blocks/mlp_in`.
"""

from __future__ import annotations

import re

OPTIMIZER = "optimizer and target"
_CONTROL = {
    "while", "body", "cond", "closed_call", "checkpoint", "remat",
    "rematted_computation", "shard_map", "custom_vjp_call", "pallas_call", "towers",
    "optimizer",
}  # fmt: skip
_BRANCH = re.compile(r"branch_\d+_fun")


def module_of(op_name: str) -> str:
    """Returns the path of a module; `OPTIMIZER` outside of it, "" if unknown."""
    if not op_name:
        return ""
    # Of merged instructions the first; of a path the last part is the operation.
    *parts, _ = op_name.partition(";")[0].split("/")
    path = [part for part in parts if _is_module(part)]
    if not path and "Learner" not in op_name:
        return OPTIMIZER
    return "/".join(dict.fromkeys(path)) or "learner"


def _is_module(part: str) -> bool:
    # A method is `module.method`, a transformation `jvp(Learner)`.
    is_name = not any(mark in part for mark in "().<>")
    return is_name and part not in _CONTROL and not _BRANCH.fullmatch(part)
