"""Results in the form of CLIP_benchmark's JSON files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clipin_jax.evaluators.base import Evaluator


def clip_benchmark_record(
    evaluator: Evaluator,
    values: Mapping[str, float],
    *,
    dataset: str,
    model: str,
    pretrained: str,
) -> dict[str, Any]:
    """Returns the result of an evaluator with CLIP_benchmark's keys.

    Args:
      evaluator: has the task, and `benchmark_keys`: the names of metrics there.
      values: yielded by `evaluator.run`. NaN and infinity become None, since JSON has
        neither.
      dataset, model, pretrained: names in the record.
    """
    metrics = {
        key: values[metric] if math.isfinite(values[metric]) else None
        for key, metric in getattr(evaluator, "benchmark_keys", {}).items()
        if metric in values
    }
    return {
        "dataset": dataset,
        "model": model,
        "pretrained": pretrained,
        "task": evaluator.task,
        "metrics": metrics,
        "language": "en",
    }
