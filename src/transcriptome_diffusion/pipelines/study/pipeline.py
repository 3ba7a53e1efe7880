"""The paper's whole experiment: the default run with several trainings per generator, and its tables and figures.

All stages are those of the default run, with its names and datasets, so that a training counts for both; they only take
``runs`` and ``resume`` from the block `study`. Of what the study adds, ``compare_steps_*`` read held-out donors. They
are evaluation: they compare samples of finished trainings with them, change no model, and what they make leads to
tables, figures and the study's report only.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import SAMPLERS, TRAINED

from . import nodes

#: figures of the evaluation that are the paper's 2, 3 and 4, and the table of the report below which each stands
FIGURES = {"trajectory": "landmarks", "precision_recall": "landmarks", "accuracies": "reverse_validation"}
#: what the stages take from the study's block
SETTINGS = {"params:runs": "params:study.runs", "params:resume": "params:study.resume"}


def create_pipeline(whole: Pipeline, **_: Any) -> Pipeline:
    """``whole`` (all stages) with the study's own nodes; ``--namespaces study`` makes its tables again."""
    figures = {what: table for what, table in FIGURES.items() if f"figure_{what}" in whole.all_outputs()}
    own = [
        *(
            Node(
                nodes.compare_steps,
                [
                    "denoiser",
                    "landmarks_train",
                    "landmarks_test",
                    "yardsticks_landmarks",
                    f"params:{sampler}",
                    "params:sampling",
                    "params:evaluation",
                    "params:study",
                ],
                f"study_draws_{sampler}",
                name=f"compare_steps_{sampler}",
            )
            for sampler in SAMPLERS
        ),
        Node(
            nodes.tabulate,
            [
                "params:study",
                "scorecard",
                "scorecard_draws",
                "reconstruction_quality",
                *(f"study_draws_{sampler}" for sampler in SAMPLERS),
                *(f"training_summary_{name}" for name in TRAINED),
            ],
            [f"study_{table}" for table in nodes.TABLES],
            name="tabulate",
        ),
        Node(
            nodes.plot,
            ["study_samplers", "study_cost"],
            ["figure_study_samplers", "figure_study_cost"],
            name="plot",
        ),
        Node(
            nodes.reporting(list(figures.values())),
            [
                "params:study",
                "params:split",
                "cohort_summary",
                *(f"study_{table}" for table in nodes.TABLES),
                "figure_study_samplers",
                "figure_study_cost",
                *(f"figure_{what}" for what in figures),
            ],
            "study_report",
            name="write_report",
        ),
    ]
    stages = Pipeline(whole, parameters=SETTINGS)
    return stages + Pipeline(own, namespace="study", prefix_datasets_with_namespace=False)
