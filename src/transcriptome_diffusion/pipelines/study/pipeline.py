"""The paper's whole experiment: the default run with several trainings per generator, and its tables and figures.

All stages are those of the default run, with its names and datasets, so that a training counts for both; they only take
``runs`` and ``resume`` from the block `study`. Of what the study adds, ``compare_steps_*`` read held-out donors. They
are evaluation: they compare samples of finished trainings with them, change no model, and what they make leads to
tables, figures and the study's report only.
"""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.pipelines import paper_protocol
from transcriptome_diffusion.pipelines.shared import boxed

from . import nodes

#: samplers of a trained denoiser, which are compared by their number of steps; the last has no row on the scorecard
SAMPLERS = (*(name for name, spec in GENERATORS.items() if spec.sampler), "dpm_solver")
#: figures of the evaluation that are the paper's 2, 3 and 4, and the table of the report below which each stands
FIGURES = {"trajectory": "landmarks", "precision_recall": "landmarks", "accuracies": "reverse_validation"}
#: what the stages take from the study's block
SETTINGS = {f"params:{name}": f"params:study.{name}" for name in ("runs", "resume", "detail")}
#: what the study reads of the evaluation, by its name here
READ = {
    "reference": "evaluation.reference",
    "draws": "evaluation.draws",
    "reconstruction_quality": "evaluation.reconstruction_quality",
    "training_summary": "evaluation.report.training_summary",
    **{f"figure_{what}": f"evaluation.report.figure_{what}" for what in FIGURES},
}


def create_pipeline(whole: Pipeline, **_: Any) -> Pipeline:
    """``whole`` (all stages) with the study's own nodes; ``--namespaces evaluation.study`` makes its tables again."""
    own = [
        *(
            Node(
                nodes.compare_steps,
                [
                    f"models_{model_name('ddpm')}",
                    *("landmarks_train", "reference", f"params:{sampler}"),
                    *("params:sampling", "params:evaluation", "params:study"),
                ],
                f"study_draws_{sampler}",
                name=f"compare_steps_{sampler}",
            )
            for sampler in SAMPLERS
        ),
        Node(
            nodes.tabulate,
            [
                *("params:study", "scorecard", "draws", "reconstruction_quality", "training_summary"),
                *(f"study_draws_{sampler}" for sampler in SAMPLERS),
            ],
            [f"study_{table}" for table in nodes.MADE],
            name="tabulate",
        ),
        Node(
            nodes.plot,
            ["study_samplers", "study_cost"],
            ["figure_study_samplers", "figure_study_cost"],
            name="plot",
        ),
        Node(
            nodes.WriteReport(list(FIGURES.values())),
            [
                *("params:study", "params:split", "cohort_summary"),
                *(f"study_{table}" for table in nodes.MADE),
                "paper_protocol",
                *("figure_study_samplers", "figure_study_cost"),
                *(f"figure_{what}" for what in FIGURES),
            ],
            "study_report",
            name="write_report",
        ),
    ]
    # what the stages call the models that no other of them reads
    models = {name.rpartition(".")[2]: name for name in whole.all_outputs() if ".models_" in name}
    protocol = paper_protocol.create_pipeline("evaluation.study.paper_protocol", models)
    return Pipeline(whole, parameters=SETTINGS) + boxed(own, "evaluation.study", renamed=READ) + protocol
