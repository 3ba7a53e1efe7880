"""Every generator on one scorecard, against held-out donors and against train.

This is the only stage that reads held-out donors, apart from the node that cuts them to the panel.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATOR_NAMES, TRAINED

from . import nodes

#: per space: the prefix of the real matrices, and the prefix of the synthetic ones
SPACES = {"landmarks": ("landmarks", "profiles"), "transcriptome": ("expression", "transcriptomes_linear")}


def create_pipeline(**_: Any) -> Pipeline:
    """Reference rows (real, memoriser, oracle), one row per generator and space, then the scorecard and report."""
    rows = ("real", "memoriser", "oracle", *GENERATOR_NAMES)
    references = [
        Node(
            nodes.draw_memoriser,
            ["landmarks_train", "expression_train", "params:sampling", "params:evaluation"],
            ["profiles_memoriser", "transcriptomes_linear_memoriser"],
            name="draw_memoriser",
        ),
        Node(
            nodes.prepare_oracle,
            ["oracle_cohort", "expression_train", "landmarks_train"],
            ["profiles_oracle", "transcriptomes_linear_oracle"],
            name="prepare_oracle",
        ),
    ]
    scores = [
        Node(
            nodes.scoring(row, space),
            [
                f"{real}_train" if row == "real" else f"{synthetic}_{row}",
                f"{real}_test" if row == "real" else f"{synthetic}_{row}",
                *(f"{real}_{split}" for split in ("train", "validation", "test")),
                "params:evaluation",
            ],
            f"indicators_{space}_{row}",
            name=f"score_{space}_{row}",
        )
        for space, (real, synthetic) in SPACES.items()
        for row in rows
    ]
    collected = [
        Node(
            nodes.collect_scorecard,
            [f"indicators_{space}_{row}" for space in SPACES for row in rows],
            "scorecard",
            name="collect_scorecard",
        ),
        Node(
            nodes.score_reconstruction,
            ["reconstructor_linear", "landmarks_test", "expression_test", "expression_train"],
            "reconstruction_quality",
            name="score_reconstruction",
        ),
        Node(
            nodes.plot_pca,
            ["landmarks_train", "landmarks_test", *(f"profiles_{name}" for name in GENERATOR_NAMES)],
            "figure_pca_landmarks",
            name="plot_pca",
        ),
        Node(nodes.plot_precision_recall, "scorecard", "figure_precision_recall", name="plot_precision_recall"),
        Node(
            nodes.write_report,
            [
                "scorecard",
                "cohort_summary",
                "reconstruction_quality",
                "figure_pca_landmarks",
                "figure_precision_recall",
                "landmarks_train",
                *(f"training_summary_{name}" for name in TRAINED),
                *(f"figure_training_{name}" for name in TRAINED),
            ],
            "report",
            name="write_report",
        ),
    ]
    return Pipeline([*references, *scores, *collected], namespace="evaluation", prefix_datasets_with_namespace=False)
