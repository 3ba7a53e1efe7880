"""Every generator on one scorecard, against held-out donors and against train.

This is the only stage that reads held-out donors, apart from the node that cuts them to the panel.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATOR_NAMES, RECONSTRUCTORS, TRAINED, TRANSCRIPTOMES

from . import nodes

#: rows that are no generators, and what they are scored on where that is not their own profiles
REFERENCES = ("real", "memoriser", "oracle")
#: the prefix of the real matrices, per space
REAL = {"landmarks": "landmarks", "transcriptome": "expression"}


def rows() -> list[tuple[str, str, str]]:
    """Every row of the scorecard: space, generator, and the way to the transcriptome (empty where there is none)."""
    return [
        *(("landmarks", name, "") for name in (*REFERENCES, *GENERATOR_NAMES)),
        *(("transcriptome", name, "") for name in REFERENCES),
        *(("transcriptome", name, way) for name, way in TRANSCRIPTOMES),
    ]


def synthetic(space: str, name: str, way: str) -> str:
    """The profiles behind a row."""
    prefix = "profiles" if space == "landmarks" else "transcriptomes"
    return f"{prefix}_{name}" + (f"_by_{way}" if way else "")


#: models that give a loss for every profile, and so can be attacked with it
ATTACKED = {"flow_matching": "generator_flow_matching", "denoiser": "denoiser"}
SPLITS = ("train", "validation", "test")


def create_pipeline(**_: Any) -> Pipeline:
    """Reference rows (real, memoriser, oracle), a row per generator, space and way, privacy, scorecard and report."""
    references = [
        Node(
            nodes.draw_memoriser,
            ["landmarks_train", "expression_train", "params:sampling", "params:evaluation"],
            ["profiles_memoriser", "transcriptomes_memoriser"],
            name="draw_memoriser",
        ),
        Node(
            nodes.prepare_oracle,
            ["oracle_cohort", "expression_train", "landmarks_train"],
            ["profiles_oracle", "transcriptomes_oracle"],
            name="prepare_oracle",
        ),
        *(
            Node(
                nodes.fit_yardsticks,
                [f"{real}_train", f"{real}_validation", "params:evaluation"],
                f"yardsticks_{space}",
                name=f"fit_yardsticks_{space}",
            )
            for space, real in REAL.items()
        ),
    ]
    named = {row: "_".join(filter(None, row)) for row in rows()}
    scores = [
        Node(
            nodes.scoring(name, space, way),
            [
                *(f"{REAL[space]}_{split}" for split in SPLITS),
                f"yardsticks_{space}",
                "gene_sets",
                "params:evaluation",
                *([] if name == "real" else [synthetic(space, name, way)]),
            ],
            [f"indicators_{named[space, name, way]}", f"by_tissue_{named[space, name, way]}"],
            name=f"score_{named[space, name, way]}",
        )
        for space, name, way in rows()
    ]
    privacy = [
        *(
            Node(
                nodes.scoring_privacy(name),
                [
                    *(f"landmarks_{split}" for split in SPLITS),
                    "yardsticks_landmarks",
                    "params:evaluation",
                    *([] if name == "real" else [synthetic("landmarks", name, "")]),
                ],
                f"privacy_{name}",
                name=f"score_privacy_{name}",
            )
            for name in (*REFERENCES, *GENERATOR_NAMES)
        ),
        *(
            Node(
                nodes.attacking(name),
                ["landmarks_train", "landmarks_test", models, "params:evaluation"],
                [f"privacy_{name}_loss", f"attack_{name}"],
                name=f"attack_{name}",
            )
            for name, models in ATTACKED.items()
        ),
        Node(
            nodes.collect_privacy,
            [
                *(f"privacy_{name}" for name in (*REFERENCES, *GENERATOR_NAMES)),
                *(f"privacy_{name}_loss" for name in ATTACKED),
            ],
            "privacy",
            name="collect_privacy",
        ),
        Node(
            nodes.collect_attacks,
            [f"attack_{name}" for name in ATTACKED],
            "privacy_by_time",
            name="collect_attacks",
        ),
    ]
    collected = [
        Node(
            nodes.collect_scorecard,
            [f"indicators_{name}" for name in named.values()],
            ["scorecard", "scorecard_draws"],
            name="collect_scorecard",
        ),
        Node(
            nodes.collect_tissues,
            [f"by_tissue_{name}" for name in named.values()],
            "scorecard_by_tissue",
            name="collect_tissues",
        ),
        Node(
            nodes.score_reconstruction,
            [
                "landmarks_test",
                "expression_test",
                *(f"reconstructor_{name}" for name in RECONSTRUCTORS),
            ],
            ["reconstruction_quality", "reconstruction_by_gene", "figure_reconstruction_by_gene"],
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
                "figure_reconstruction_by_gene",
                "landmarks_train",
                *(f"training_summary_{name}" for name in TRAINED),
                *(f"figure_training_{name}" for name in TRAINED),
            ],
            "report",
            name="write_report",
        ),
    ]
    return Pipeline(
        [*references, *scores, *privacy, *collected], namespace="evaluation", prefix_datasets_with_namespace=False
    )
