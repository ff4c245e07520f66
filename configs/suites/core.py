"""Minutes: retrieval, zero-shot classification, nearest neighbours, few shots.

clipin evaluate RUN --suite core --data FOLDER
"""

from typing import Any

from ml_collections import ConfigDict


def get_evals(data: Any, config: ConfigDict) -> dict[str, Any]:
    return {
        **data.over("pairs", retrieval=dict(type="retrieval")),
        **data.over("classes", zero_shot=dict(type="zero_shot")),
        **data.over(
            "splits",
            nearest_neighbors=dict(type="nearest_neighbors"),
            few_shot=dict(type="few_shot"),
        ),
    }
