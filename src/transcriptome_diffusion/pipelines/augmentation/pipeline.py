"""The low-sample experiment of Lacan et al. (2023), doi:10.1093/bioinformatics/btad239; not part of the default run.

Everything that fits reads training and validation donors. ``evaluate`` is an evaluation node: it alone reads held-out
donors, it fits nothing, and what it makes leads to a figure only.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes


def create_pipeline(**_: Any) -> Pipeline:
    """One node per generator trains and draws, one tests; `augmentation.generators` says which take part."""
    real, common = ["landmarks_train", "landmarks_validation"], ["params:augmentation", "params:evaluation"]
    references = Node(
        nodes.train_references, [*real, *common], "augmentation_classifiers_references", name="train_references"
    )
    generators = [
        Node(
            nodes.TrainClassifiers(name),
            [
                *real,
                "augmentation_reference",
                f"params:{model_name(name)}",
                *common,
                "params:privacy",
                "params:sampling",
                *([f"params:{name}"] if spec.sampler else []),
            ],
            f"augmentation_classifiers_{name}",
            name=f"train_{name}",
        )
        for name, spec in GENERATORS.items()
    ]
    prepare = Node(
        nodes.prepare_reference,
        ["reference_cohort", "landmarks_train", "params:evaluation"],
        "augmentation_reference",
        name="prepare_reference",
    )
    trained = [f"augmentation_classifiers_{name}" for name in ("references", *GENERATORS)]
    evaluate = Node(
        nodes.evaluate,
        ["landmarks_test", "params:evaluation", *trained],
        ["augmentation_scores", "augmentation_gains", "augmentation_worth", "augmentation_quality"],
        name="evaluate",
    )
    plot = Node(
        nodes.plot,
        ["augmentation_scores", "augmentation_worth", "augmentation_quality"],
        ["figure_augmentation", "figure_augmentation_worth", "figure_augmentation_frontier"],
        name="plot",
    )
    return boxed([prepare, references, *generators, evaluate, plot], "augmentation")
