"""Every generator on one scorecard, against held-out donors and against train, and the report.

This is the only stage that reads held-out donors, apart from the node that cuts them to the panel.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes, report

SPLITS = ("train", "validation", "test")
#: rows that are no generators
REFERENCE_ROWS = ("real", "memoriser", "oracle")


def create_pipeline(**_: Any) -> Pipeline:
    """The reference, a score for every row, the scorecard; the report is a box of its own."""
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
        Node(
            nodes.fit_reference,
            [
                *(f"{space}_{split}" for space in ("landmarks", "expression") for split in SPLITS),
                *("gene_sets", "params:evaluation"),
            ],
            "reference",
            name="fit_reference",
        ),
        Node(
            nodes.score_real,
            ["reference", "params:evaluation"],
            "scores_real",
            name="score_real",
        ),
        *(score_node(row, f"profiles_{row}", f"transcriptomes_{row}") for row in REFERENCE_ROWS if row != "real"),
    ]
    scores = [score_node(name, f"profiles_{name}", f"transcriptomes_{name}") for name in GENERATORS]
    collected = [
        Node(
            nodes.collect,
            [f"scores_{row}" for row in (*REFERENCE_ROWS, *GENERATORS)],
            ["draws", "by_tissue"],
            name="collect",
        ),
        # a leaf: kedro-viz hides in a box what its own nodes read, so the report reads the draws
        Node(nodes.summarise, "draws", "scorecard", name="summarise"),
        Node(
            nodes.score_reconstruction,
            ["landmarks_test", "expression_test", "reconstructors"],
            ["reconstruction_quality", "reconstruction_by_gene"],
            name="score_reconstruction",
        ),
    ]
    shown = report_nodes()
    report_box = boxed(shown, "report", internal={name for node in shown for name in node.outputs} - {"report"})
    everything = Pipeline([*references, *scores, *collected, report_box])
    internal = everything.all_outputs() - {"scorecard", "report"} | {"oracle_cohort", "gene_sets"}
    return boxed([everything], "evaluation", internal=internal)


def score_node(row: str, profiles: str, transcriptomes: str) -> Node:
    """One node per row; of a generator whose trained model gives losses, the model is attacked as well."""
    inputs = [profiles, transcriptomes, "reference", "params:evaluation"]
    spec = GENERATORS.get(row)
    if spec is not None and spec.white_box:
        inputs += [f"models_{model_name(row)}", "landmarks_train", "landmarks_test"]
    return Node(nodes.Score(row), inputs, f"scores_{row}", name=f"score_{row}", tags=row if spec else None)


def report_nodes() -> list[Node]:
    """Figures, and the report that shows them."""
    real = ["landmarks_train", "landmarks_test", "reference"]
    denoiser = f"models_{model_name('ddpm')}"

    def figures(names: tuple[str, ...]) -> list[str]:
        return [f"figure_{name}" for name in names]

    shown = (*report.OF_PROFILES, "trajectory", *report.OF_SCORES)
    return [
        Node(
            report.plot_profiles,
            [*real, "params:evaluation", *(f"profiles_{name}" for name in GENERATORS)],
            figures(report.OF_PROFILES),
            name="plot_profiles",
        ),
        Node(
            report.plot_trajectory,
            [*real, denoiser, "params:evaluation", "params:sampling", "params:ddpm"],
            "figure_trajectory",
            name="plot_trajectory",
        ),
        Node(
            report.plot_scores,
            ["draws", "by_tissue", "reconstruction_by_gene"],
            figures(report.OF_SCORES),
            name="plot_scores",
        ),
        Node(
            report.log_training,
            [f"models_{name}" for name in report.TRAINED],
            [
                "training_summary",
                "training_curves",
                "figure_training",
            ],
            name="log_training",
        ),
        Node(
            report.write_report,
            {
                "draws": "draws",
                "by_tissue": "by_tissue",
                "cohort_summary": "cohort_summary",
                "reconstruction_quality": "reconstruction_quality",
                "training_summary": "training_summary",
                "training_curves": "training_curves",
                "train": "landmarks_train",
                "parameters": "parameters",
                **{f"figure_{name}": f"figure_{name}" for name in (*shown, "training")},
            },
            "report",
            name="write_report",
        ),
    ]
