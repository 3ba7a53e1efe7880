"""The paper's comparison of samplers and numbers of steps, from trainings that are already there.

Lacan et al. (2026), doi:10.1186/s12859-026-06470-8. The rest of its experiment is the default run with several
trainings per generator. Nothing is fitted to held-out donors here: they are only compared with.
"""

from __future__ import annotations

import logging
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from transcriptome_diffusion.devices import resolve_device
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.runs import SEED_STEP
from transcriptome_diffusion.metrics.correlation import correlation_score
from transcriptome_diffusion.metrics.distances import frechet
from transcriptome_diffusion.metrics.fidelity import fidelity, least_profiles
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.reference import SpaceReference
from transcriptome_diffusion.metrics.statistics import matched

logger = logging.getLogger(__name__)

COLUMNS = ["generator", "steps", "reference", "metric", "run", "draw", "value", "n", "device"]
#: of ``fidelity``, those that the paper reports
FIDELITY = ("precision", "recall", "f1", "adversarial_accuracy")


def compare_steps(
    models: Sequence[Diffusion],
    sampler: SamplerOptions,
    steps: Sequence[int],
    train: ad.AnnData,
    reference: SpaceReference,
    sampling: SamplingOptions,
    evaluation: EvaluationOptions,
) -> pd.DataFrame:
    """One profile per training sample from every training with every number of steps, scored and timed.

    The same seeds, matched subsets, neighbours and reference as on the scorecard, so that the sampler's own number of
    steps gives the scorecard's values. One set of profiles is in memory at a time.

    Args:
        models: trainings of one denoiser, read one by one. sampler: whose ``steps`` are replaced.
        train: landmark profiles (n, n_genes), whose labels are drawn. reference: the real profiles of the landmarks.

    Returns:
        A row per value, ``COLUMNS``. ``reference`` is ``train`` (the paper's) or ``test``; with ``none``, the metric
        ``seconds`` is the time that drawing n profiles took on ``device``; ``seconds_per_1000``, that of 1,000 of them.

    Raises:
        ValueError: if a number of steps is above the denoiser's timesteps.
    """
    real = {"train": reference.train, "test": reference.test}
    device = describe(sampler.device)
    rows: list[tuple[Any, ...]] = []
    for index, model in enumerate(models):
        if not rows:  # what a device loads at its first call is no part of the time
            _draw(model, train.obs[:2], sampler.model_copy(update={"steps": min(steps)}), sampling, index)
        for number in sorted(set(steps)):
            title = f"{sampler.name}, {number} steps, run {index + 1} of {len(models)}"
            started = time.perf_counter()
            drawn = _draw(model, train.obs, sampler.model_copy(update={"steps": number}), sampling, index, title)
            seconds = time.perf_counter() - started
            per_1000 = 1000 * seconds / train.n_obs
            found = indicators(reference.measure(drawn), real, evaluation)
            found += [
                ("none", "seconds", 0, seconds, train.n_obs),
                ("none", "seconds_per_1000", 0, per_1000, train.n_obs),
            ]
            rows += [(sampler.name, number, *row[:2], index + 1, *row[2:], device) for row in found]
            logger.info("%s: %.2f s per 1,000 profiles on %s", title, per_1000, device)
    return pd.DataFrame(rows, columns=COLUMNS)


def indicators(
    synthetic: ProfileSet, real: Mapping[str, ProfileSet], options: EvaluationOptions
) -> list[tuple[str, str, int, float, int]]:
    """The paper's indicators on matched subsets of the size of ``real["test"]``: (reference, metric, draw, value, n).

    Those of neighbours are NaN with fewer than ``fidelity.least_profiles`` a side, as on the scorecard.

    Args:
        synthetic: landmark profiles as the reference measures them. real: the same by reference.
    """
    k = options.neighbours.landmarks
    rows: list[tuple[str, str, int, float, int]] = []
    for reference, profiles in real.items():
        pairs = matched(profiles, synthetic, real["test"], options.draws, options.seed, options.most_profiles)
        for draw, (ours, theirs) in enumerate(pairs):
            enough = len(ours.labels) >= least_profiles(k)
            found = fidelity(ours.values, theirs.values, k) if enough else dict.fromkeys(FIDELITY, np.nan)
            values = {metric: found[metric] for metric in FIDELITY} | {
                "correlation": correlation_score(ours.values, theirs.values),
                "frechet_classifier": frechet(ours.features, theirs.features),
                "frechet_pca": frechet(ours.coordinates, theirs.coordinates),
            }
            rows += [(reference, metric, draw, value, len(ours.labels)) for metric, value in values.items()]
    return rows


def describe(device: str) -> str:
    """The device called ``device`` in words, as far as its times depend on it."""
    found = resolve_device(device)
    if found.type == "cuda":
        return torch.cuda.get_device_name(found)
    return f"{found.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _draw(
    model: Diffusion,
    labels: pd.DataFrame,
    sampler: SamplerOptions,
    sampling: SamplingOptions,
    index: int,
    title: str = "",
) -> ad.AnnData:
    """What ``draw_runs`` draws from the training ``index`` (from 0), with a progress bar if it has a title."""
    with _bar(title) as report:
        seed = sampling.seed + SEED_STEP * index
        return model.sample(labels, seed, sampling.batch_size, sampler=sampler, progress=report)


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    watched = bool(title) and sys.stderr.isatty()
    with tqdm(desc=title, unit="step", disable=not watched, leave=False) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report
