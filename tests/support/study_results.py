"""Made-up results of studies, with realistic numbers."""

from functools import cache

import numpy as np

RECALL, ACCURACY, RANK = (
    "retrieval/mean_recall",
    "zero_shot/accuracy",
    "retrieval/median_rank",
)
METRICS = {
    RECALL: {"label": "mean recall", "chance": 0.02, "percent": True},
    ACCURACY: {"label": "zero-shot accuracy", "chance": 0.125, "percent": True},
    RANK: {"label": "median rank", "chance": 128.0, "percent": False},
}
GAIN = {"CLIP": 0.0, "nCLIP": -0.12, "xCLIP": 0.004, "CLIPin": 0.012}
SETTINGS = {"steps": 300, "batch_size": 64, "data": {"name": "scenes", "size": 4096}}


def looseness_study(seeds=5) -> dict:
    """Returns results of a study with levels; CLIPin's gain grows with the level."""
    levels = ["0", "0.2", "0.4", "0.6"]
    scores = [
        score(method, level, seed, recall(method, float(level), seed))
        for method in GAIN
        for level in levels
        for seed in range(seeds)
    ]
    costs = {
        method: {
            "step_ms": 40.1 * ratio,
            "ratio": ratio,
            "flops_ratio": 0.95 * ratio,
            "peak_mib": 300 * ratio,
            "million_params": 1.2 + ratio,
        }
        for method, ratio in zip(GAIN, (1.0, 1.1, 1.25, 1.9), strict=True)
    }
    return {
        "name": "looseness",
        "title": "Loosely aligned captions",
        "question": "Does CLIPin make training robust to captions of other images?",
        "baseline": "CLIP",
        "methods": list(GAIN),
        "notes": {"CLIPin": "adds two regressions towards an averaged copy"},
        "dial": "looseness",
        "levels": levels,
        "metrics": METRICS,
        "seeds": list(range(seeds)),
        "scores": scores,
        "costs": costs,
        "settings": SETTINGS,
        "environment": {"versions": {"jax": "0.10.2"}, "device": "cpu"},
    }


def ablation_study(count=14, seeds=3) -> dict:
    """Returns results of a study of many methods, without levels."""
    methods = ["CLIP", *(f"CLIPin, weight {i / 10}" for i in range(1, count))]
    rng = np.random.default_rng(1)
    gains = dict(zip(methods, rng.normal(0, 0.02, count), strict=True))
    scores = [
        score(method, "", seed, 0.3 + gains[method] + rng.normal(0, 0.01))
        for method in methods
        for seed in range(seeds)
    ]
    changed = {"title": "Ablation", "question": "Which part helps?", "dial": ""}
    lists = {"methods": methods, "levels": [""], "seeds": list(range(seeds))}
    return {**looseness_study(1), **changed, **lists, "scores": scores, "costs": {}}


@cache
def recall(method: str, level: float, seed: int) -> float:
    rng = np.random.default_rng([seed, int(10 * level), list(GAIN).index(method)])
    shared = np.random.default_rng([seed, 99]).normal(0, 0.02)  # by the seed alone
    gain = GAIN[method] + (0.05 * level if method == "CLIPin" else 0)
    return 0.42 - 0.35 * level + gain + shared + rng.normal(0, 0.006)


def score(method: str, level: str, seed: int, value: float) -> dict:
    steps = range(50, 301, 50)
    curve = [[step, value * (1 - np.exp(-step / 80))] for step in steps]
    values = {RECALL: value, ACCURACY: value + 0.2, RANK: round(10 - 9 * value)}
    loss = [[step, 4 / step**0.3] for step in range(2, 301, 2)]
    return {
        "method": method,
        "level": level,
        "seed": seed,
        "values": values,
        "curves": {RECALL: curve, "train/loss": loss},
    }


def two_method_study(first, second, **changed) -> dict:
    """Returns results of methods A and B: values of the primary metric, one a seed."""
    count = max(len(first), len(second))
    scores = [
        {"method": method, "level": "", "seed": seed, "values": {"x": value}}
        for method, values in (("A", first), ("B", second))
        for seed, value in enumerate(values)
    ]
    return {
        "name": "ab",
        "title": "A and B",
        "question": "Which?",
        "baseline": "A",
        "methods": ["A", "B"],
        "dial": "",
        "levels": [""],
        "metrics": {"x": {"label": "score", "chance": None, "percent": True}},
        "seeds": list(range(count)),
        "scores": scores,
        "costs": {},
        "settings": {},
        "environment": {},
        **changed,
    }
