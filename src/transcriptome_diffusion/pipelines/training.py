"""What the stages that train generators share: runs with resume, drawing with a check, curves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from kedro.pipeline import Node

from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.generators.registry import Entry
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

logger = logging.getLogger(__name__)


def fitting(entry: Entry) -> Callable[..., Any]:
    """The fit node of one generator; its annotation lets Kedro validate that generator's own parameters."""

    def fit(train: AnnData, validation: AnnData, finished: Any, options: Any, runs: int, resume: bool) -> Iterator[Any]:
        from transcriptome_diffusion.generators.registry import generator_class
        from transcriptome_diffusion.generators.runs import trainings

        # every model is saved as soon as it is yielded
        yield from trainings(generator_class(entry), train, validation, options, runs, finished if resume else None)

    fit.__annotations__["options"] = entry.options
    return fit


def fit_node(entry: Entry, parameters: str, models: str, node: str, genes: str = "landmarks") -> Node:
    """Trains ``models`` with the block ``parameters``; ``finished_<models>`` are those of an earlier command.

    ``genes`` is ``landmarks``, or ``expression`` for all of them.
    """
    return Node(
        fitting(entry),
        [
            f"{genes}_train",
            f"{genes}_validation",
            f"finished_{models}",
            f"params:{parameters}",
            "params:runs",
            "params:resume",
        ],
        models,
        name=node,
    )


def draw_profiles(models: Any, train: AnnData, options: SamplingOptions, **how: Any) -> AnnData:
    """One synthetic profile per training sample and run, with the training labels (the paper's protocol)."""
    from transcriptome_diffusion.expression.profiles import dense, split_runs
    from transcriptome_diffusion.expression.scaling import GeneScaler
    from transcriptome_diffusion.generators.runs import draw_runs
    from transcriptome_diffusion.memory import SMALLER, require_memory
    from transcriptome_diffusion.metrics.health import complaints

    # the profiles of all runs, twice while several are joined; then training and drawn ones, standardised
    copies = 4 * len(models) * (1 if len(models) == 1 else 2)
    needed = (copies * train.n_obs + max(16 * train.n_obs, 30 * min(options.batch_size, train.n_obs))) * train.n_vars
    what = f"drawing {len(models)} x {train.n_obs} profiles of {train.n_vars} genes"
    require_memory(what, needed, f"{SMALLER} Fewer `runs` help as well.")
    drawn = draw_runs(models, train.obs, options.seed, options.batch_size, **how)
    # from the profiles: asking a model again would read its weights again
    scaler, label = GeneScaler.fit(dense(train)), drawn.uns["generator"]["settings"]["conditions"][0]
    real = scaler(dense(train)), train.obs[label].astype(str).to_numpy()
    for run, part in split_runs(drawn):
        _, said = complaints(*real, scaler(dense(part)), part.obs[label].astype(str).to_numpy())
        for sentence in said:
            logger.warning("%s, run %d: %s.", drawn.uns["generator"]["name"], run, sentence)
    return drawn


def logging_of(name: str) -> Callable[..., Any]:
    """The node that writes down how ``name`` was trained."""

    def log_training(models: Any) -> tuple[DataFrame, DataFrame, Figure]:
        """Curves of all runs (a row per validation), what became of each run (a row), and the curves as a figure."""
        from transcriptome_diffusion.reporting import training_log

        records = models.records()
        curves = training_log.curves(records)
        return curves, training_log.summary(name, records), training_log.figure(name, curves)

    return log_training


def log_node(name: str, models: str, node: str = "log_training") -> Node:
    """Writes down how ``models`` were trained."""
    return Node(
        logging_of(name),
        models,
        [f"training_curves_{name}", f"training_summary_{name}", f"figure_training_{name}"],
        name=node,
    )
