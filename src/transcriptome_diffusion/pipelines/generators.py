"""Nodes that fit a generator and draw from it, for every line of the table of generators."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node

from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import DIRECT, GENERATORS, model_name, trained_models
from transcriptome_diffusion.pipelines.shared import AnnData

logger = logging.getLogger(__name__)


class Fit:
    """Fits one model on the landmarks and, where it has one for them, on all genes.

    A class and not a closure, so that runners can send it to other processes; its annotations let Kedro validate the
    model's own block of parameters.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.__name__ = f"fit_{model}"
        options = trained_models()[model].options
        self.__annotations__ = {"options": options, "whole_options": options}

    def __call__(
        self,
        train: AnnData,
        validation: AnnData,
        options: Any,
        runs: int,
        resume: bool,
        whole_train: AnnData = None,
        whole_validation: AnnData = None,
        whole_options: Any = None,
        detail: str = "standard",
    ) -> list[Any]:
        """The trainings that are due; each is done when it is saved."""
        from transcriptome_diffusion.generators.runs import trainings

        given = {
            "landmarks": (train, validation, options),
            "transcriptome": (whole_train, whole_validation, whole_options),
        }
        data = {space: given[space] for space in self.spaces(detail)}
        return list(trainings(trained_models()[self.model].load_class(), data, runs, resume))

    def spaces(self, detail: str) -> tuple[str, ...]:
        """What the model is trained on: the landmarks and, where a generator draws all genes from it, these."""
        users = [spec for name, spec in GENERATORS.items() if model_name(name) == self.model]
        direct = any(DIRECT in spec.reconstructors(detail) for spec in users)
        return ("landmarks", "transcriptome") if direct else ("landmarks",)


def fit_node(model: str, name: str) -> Node:
    """Trains ``model`` with the blocks of parameters ``<model>`` and, on all genes, ``direct_<model>``."""
    users = [generator for generator in GENERATORS if model_name(generator) == model]
    inputs = ["landmarks_train", "landmarks_validation", f"params:{model}", "params:runs", "params:resume"]
    if any(GENERATORS[generator].whole_transcriptome for generator in users):
        inputs += ["expression_train", "expression_validation", f"params:direct_{model}", "params:detail"]
    return Node(Fit(model), inputs, f"models_{model}", name=name, tags=users)


def draw_node(generator: str, name: str) -> Node:
    """Draws the landmark profiles of one generator."""
    spec = GENERATORS[generator]
    inputs = [f"models_{model_name(generator)}", "landmarks_train", "params:sampling"]
    function: Callable[..., AnnData] = draw_landmarks
    if spec.sampler:
        inputs, function = [*inputs, f"params:{generator}"], sample_landmarks
    return Node(function, inputs, f"profiles_{generator}", name=name, tags=generator)


def draw_landmarks(models: Any, train: AnnData, options: SamplingOptions) -> AnnData:
    """One synthetic landmark profile per training sample and run, with the training labels (the paper's protocol)."""
    return draw(models.landmarks, train, options)


def sample_landmarks(models: Any, train: AnnData, options: SamplingOptions, sampler: SamplerOptions) -> AnnData:
    """The same by one of several samplers of a model."""
    return draw(models.landmarks, train, options, sampler)


def draw(models: Any, train: AnnData, options: SamplingOptions, sampler: SamplerOptions | None = None) -> AnnData:
    """One synthetic profile per training profile of ``train`` (n, n_genes) and run.

    What is drawn is compared with the training profiles; collapsed, scattered or mislabelled profiles are warned of.
    Where all trainings diverged there are no profiles, and ``uns["generator"]["note"]`` says why.
    """
    from transcriptome_diffusion.expression.profiles import dense, split_runs
    from transcriptome_diffusion.expression.scaling import GeneScaler
    from transcriptome_diffusion.generators.runs import draw_runs
    from transcriptome_diffusion.memory import SMALLER, require_memory
    from transcriptome_diffusion.metrics.health import problems

    if not models and models.why:
        drawn = train[:0].copy()
        drawn.uns["generator"] = {"note": models.why}
        return drawn
    # the profiles of all runs, twice while several are joined; then training and drawn ones, standardised
    copies = 4 * len(models) * (1 if len(models) == 1 else 2)
    needed = (copies * train.n_obs + max(16 * train.n_obs, 30 * min(options.batch_size, train.n_obs))) * train.n_vars
    what = f"drawing {len(models)} x {train.n_obs} profiles of {train.n_vars} genes"
    require_memory(what, needed, f"{SMALLER} Fewer `runs` help as well.")
    how = {} if sampler is None else {"sampler": sampler}
    drawn = draw_runs(models, train.obs, options.seed, options.batch_size, **how)
    # from the profiles: asking a model again would read its weights again
    scaler, label = GeneScaler.fit(dense(train)), drawn.uns["generator"]["settings"]["conditions"][0]
    real = scaler(dense(train)), train.obs[label].astype(str).to_numpy()
    for run, part in split_runs(drawn):
        _, found = problems(*real, scaler(dense(part)), part.obs[label].astype(str).to_numpy())
        for sentence in found:
            logger.warning("%s, run %d: %s.", drawn.uns["generator"]["name"], run, sentence)
    return drawn
