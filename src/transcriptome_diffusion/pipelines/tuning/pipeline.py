"""One search per trained model, on training and validation donors; not part of the default run."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name, trained_models

from .nodes import SearchNode


def create_pipeline(**_: Any) -> Pipeline:
    """``--nodes tuning.search_vae`` searches for one generator; `tuning.generators` says which ones a run covers."""
    searches = [
        Node(
            SearchNode(name, spec),
            [
                "landmarks_train",
                "landmarks_validation",
                f"params:{name}",
                "params:tuning",
                "params:evaluation",
                "params:sampling",
                *(f"params:{sampler}" for sampler in GENERATORS if spec.sampler and model_name(sampler) == name),
            ],
            [f"tuned_{name}", f"tuning_trials_{name}"],
            name=f"search_{name}",
        )
        for name, spec in trained_models().items()
    ]
    return Pipeline(searches, namespace="tuning", prefix_datasets_with_namespace=False)
