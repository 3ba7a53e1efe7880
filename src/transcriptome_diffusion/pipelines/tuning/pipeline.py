"""One search per generator, on training and validation donors; not part of the default run."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import BASELINES, DENOISER, SAMPLERS

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """``--nodes tuning.search_vae`` searches for one generator; `tuning.generators` says which ones a run covers."""
    searches = [
        Node(
            nodes.searching(name, entry),
            [
                "landmarks_train",
                "landmarks_validation",
                f"params:{name}",
                "params:tuning",
                "params:evaluation",
                "params:sampling",
                *(f"params:{sampler}" for sampler in SAMPLERS if entry is DENOISER),
            ],
            [f"tuned_{name}", f"tuning_trials_{name}"],
            name=f"search_{name}",
        )
        for name, entry in {**BASELINES, "denoiser": DENOISER}.items()
    ]
    return Pipeline(searches, namespace="tuning", prefix_datasets_with_namespace=False)
