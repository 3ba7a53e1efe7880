"""The low-sample experiment of Lacan et al. (2023), doi:10.1093/bioinformatics/btad239; not part of the default run.

Everything that fits reads training and validation donors. ``evaluate`` is an evaluation node: it alone reads held-out
donors, it fits nothing, and what it makes leads to a figure only.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import BASELINES, DENOISER, SAMPLERS

from . import nodes

#: a denoiser takes part once for each of its samplers, under the sampler's name
GENERATORS = {**BASELINES, **dict.fromkeys(SAMPLERS, DENOISER)}


def create_pipeline(**_: Any) -> Pipeline:
    """One node per generator trains and draws, one tests; `augmentation.generators` says which take part."""
    common = ["params:augmentation", "params:evaluation"]
    references = Node(
        nodes.train_references,
        ["landmarks_train", "landmarks_validation", *common],
        "augmentation_classifiers_references",
        name="train_references",
    )
    generators = [
        Node(
            nodes.training(name, entry),
            [
                "landmarks_train",
                "landmarks_validation",
                "params:denoiser" if entry is DENOISER else f"params:{name}",
                *common,
                "params:sampling",
                *([f"params:{name}"] if entry is DENOISER else []),
            ],
            f"augmentation_classifiers_{name}",
            name=f"train_{name}",
        )
        for name, entry in GENERATORS.items()
    ]
    trained = [f"augmentation_classifiers_{name}" for name in ("references", *GENERATORS)]
    evaluate = Node(
        nodes.evaluate,
        ["landmarks_test", "params:evaluation", *trained],
        ["augmentation_scores", "augmentation_gains"],
        name="evaluate",
    )
    plot = Node(nodes.plot, "augmentation_scores", "figure_augmentation", name="plot")
    return Pipeline(
        [references, *generators, evaluate, plot], namespace="augmentation", prefix_datasets_with_namespace=False
    )
