"""Hours: every evaluator on every data set in the folder.

clipin evaluate RUN --suite full --data FOLDER
clipin evaluate RUN --suite full --data FOLDER --only linear_probe,cifar10
"""

from typing import Any

from ml_collections import ConfigDict


def get_evals(data: Any, config: ConfigDict) -> dict[str, Any]:
    return {
        **data.over(
            "pairs",
            retrieval=dict(type="retrieval"),
            retrieval_prediction=dict(type="retrieval", similarity="prediction"),
            reranked=dict(type="retrieval", rerank=128),
            captioning=dict(type="captioning"),
        ),
        **data.over(
            "classes",
            zero_shot=dict(type="zero_shot"),
            zero_shot_prediction=dict(type="zero_shot", similarity="prediction"),
        ),
        **data.over(
            "splits",
            nearest_neighbors=dict(type="nearest_neighbors"),
            few_shot=dict(type="few_shot"),
            released_probe=dict(type="released_probe"),
            fine_tuning=dict(type="fine_tuning"),
        ),
        **data.over("tuned", linear_probe=dict(type="linear_probe")),
        **data.over("similar_texts", text_similarity=dict(type="text_similarity")),
        **data.over("labeled_texts", text_probe=dict(type="text_probe")),
        **data.over(
            "compositions",
            compositionality=dict(type="compositionality"),
            compositionality_prediction=dict(
                type="compositionality", similarity="prediction"
            ),
        ),
        **data.over("masks", localization=dict(type="localization")),
    }
