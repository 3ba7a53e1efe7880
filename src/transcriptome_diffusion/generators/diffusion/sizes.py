"""Sizes of a denoiser and of its training that grow with the cohort: what ``auto`` in the parameters stands for."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.generators.options import AUTO, DenoiserOptions, FlowMatchingOptions

#: training profiles up to which the sizes are those that were found on RNAseqDB, and do not change
SMALL = 600
#: training profiles from which they do not change any more: no larger cohort was tried
LARGE = 10_000


def automatic_sizes(options: DenoiserOptions, profiles: int) -> dict[str, Any]:
    """The value of every setting that may be ``auto``, by its path in the options.

    With n training profiles, r = n / 600, within [1, 10,000 / 600]; the values at n = 600 were found by a search on
    RNAseqDB (docs/decisions/0006), how they grow on simulated cohorts of up to 10,000 profiles
    (docs/decisions/0015)::

        setting                    diffusion            flow matching        at n = 10,000
        network.width              128, 384 from r = 2  512, 384 from r = 2  384
        network.depth              3, 4 from r = 2      3, 4 from r = 2      4
        network.dropout            .43 r^-.5            .62 r^-.65           .11, .10
        components_per_sample      .4 r^-.6             .36 r^-.6            740 and 666 components
        training.batch_size        128, 256 from r = 2  128, 256 from r = 2  256
        training.max_steps         1200 r^.47           2000 r^.29           4,500
        training.validate_every    1 / 40 of the steps, 50 or more           113
        training.weight_decay      .007                 .8 r^-1.25           .007, .024

    The number of genes needs no rule: coordinates are axes along which training profiles vary, and there are no more of
    these than profiles or genes, whichever are fewer.

    Args:
        options: of diffusion or flow matching. profiles: for training.
    """
    ratio = min(max(profiles, SMALL), LARGE) / SMALL
    larger = ratio >= 2
    flow = isinstance(options, FlowMatchingOptions)
    width, share = (512, 0.36) if flow else (128, 0.4)
    dropout = 0.62 * ratio**-0.65 if flow else 0.43 * ratio**-0.5
    max_steps: Any = round(2000 * ratio**0.29 if flow else 1200 * ratio**0.47)
    if options.training.max_steps != AUTO:
        max_steps = options.training.max_steps
    return {
        "network.width": 384 if larger else width,
        "network.depth": 4 if larger else 3,
        "network.dropout": round(dropout, 3),
        "components_per_sample": round(share * ratio**-0.6, 4),
        "training.batch_size": 256 if larger else 128,
        "training.max_steps": max_steps,
        "training.validate_every": max(max_steps // 40, 50),
        "training.weight_decay": round(0.8 * ratio**-1.25, 4) if flow else 0.007,
    }


def resolve_sizes(options: DenoiserOptions, profiles: int) -> tuple[DenoiserOptions, dict[str, Any]]:
    """The options with a number in place of every ``auto``, and these numbers by their path."""
    settings, found = options.model_dump(), {}
    for path, value in automatic_sizes(options, profiles).items():
        *parents, name = path.split(".")
        block = settings
        for parent in parents:
            block = block[parent]
        if block[name] == AUTO:
            block[name] = found[path] = value
    return (type(options).model_validate(settings), found) if found else (options, found)
