"""One training step of the denoiser, beside the matrix products of the same shapes alone, and its precisions.

A step is everything that ``training.fit`` does between two steps: batch, noise, forward, backward, optimizer, averaged
weights. The floor is forward and backward products in the same precision; the second floor adds what no step can do
without, whatever its precision: the optimizer and the averaged weights over all parameters, and the noise of a batch.
Floors are done as many times in a row as steps are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.measure import Cost, Row, clock, floor_of_a_step, measure

PROFILES, GENES, TISSUES = 900, 977, 14
CONF = Path(__file__).resolve().parents[1] / "conf"

#: name -> preset of conf/base, and changes to its block; the network of the paper has width 4,096 or 8,192 there
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "film as in conf/base": ("default", {}),
    "film, width 1,024, batch 859": ("default", {"network": {"width": 1024}, "training": {"batch_size": 859}}),
    "paper, width 1,024, batch 859": ("tcga_paper", {"network": {"width": 1024}, "training": {"batch_size": 859}}),
}
STEPS = {"film as in conf/base": 60}


@cache
def fitted(case: str) -> Any:
    """A generator whose denoiser has hardly been trained."""
    from transcriptome_diffusion import settings
    from transcriptome_diffusion.expression.profiles import make_profiles
    from transcriptome_diffusion.generators.registry import GENERATORS

    preset, changes = CASES[case]
    arguments = {**settings.CONFIG_LOADER_ARGS, "runtime_params": {"preset": preset}}
    block = settings.CONFIG_LOADER_CLASS(str(CONF), env="base", **arguments)["parameters"]["denoiser"]
    for name, change in changes.items():
        block[name] |= change
    block["training"] |= {"max_steps": 1, "max_epochs": None, "learning_rate_schedule": "constant"}
    rng = np.random.default_rng(0)
    parts = []
    for count in (PROFILES, 60):
        index = [f"p{count}-{i}" for i in range(count)]
        obs = pd.DataFrame({"tissue": [f"t{i % TISSUES}" for i in range(count)], "donor": index}, index=index)
        values = np.abs(rng.normal(5, 2, (count, GENES)))
        parts.append(make_profiles(values, obs, pd.DataFrame(index=[f"g{i}" for i in range(GENES)]), "log2(TPM + 1)"))
    spec = GENERATORS["ddpm"]
    return spec.load_class().fit(*parts, spec.options.model_validate(block))


def denoiser_of(generator: Any) -> Any:
    """Its torch module."""
    return next(value for value in vars(generator).values() if isinstance(value, nn.Module))


def describe(case: str) -> str:
    """The case with its number of parameters."""
    return f"{case}, {sum(p.numel() for p in denoiser_of(fitted(case)).parameters()) / 1e6:.1f} M parameters"


def train(case: str, steps: int, device: str, precision: str) -> float:
    """Seconds of ``training.fit`` with so many steps and one validation."""
    from transcriptome_diffusion.options import TrainingOptions
    from transcriptome_diffusion.training import fit

    generator = fitted(case)
    model = copy.deepcopy(denoiser_of(generator))
    changes = {"device": device, "precision": precision, "max_steps": steps, "validate_every": steps}
    changes["partial_batches"] = False  # every step is one of a full batch
    options = TrainingOptions.model_validate(generator.settings["training"] | changes)
    train, validation = (
        (torch.randn(n, model.width, generator=torch.Generator().manual_seed(0)), torch.arange(n)[:, None] % TISSUES)
        for n in (PROFILES, 60)
    )
    started = clock()
    fit(model, train, validation, options, seed=0)
    return clock() - started


def step(case: str, device: str, precision: str, repeats: int = 4) -> float:
    """Seconds of one training step: the difference between long and short trainings, by their minima."""
    # on a GPU the first steps record graphs, and hundreds are needed to be longer than what comes before and after
    first, more = (20, 300) if device == "cuda" else (2, STEPS.get(case, 6))
    counts = (first, first + more)
    short, long = (min(train(case, steps, device, precision) for _ in range(repeats)) for steps in counts)
    return (long - short) / more


def besides_products(case: str, device: str) -> Callable[[], None]:
    """A function that does one step of the optimizer, averages its weights and draws the noise of a batch."""
    from transcriptome_diffusion.options import TrainingOptions
    from transcriptome_diffusion.training import build_optimizer

    generator = fitted(case)
    options = TrainingOptions.model_validate(generator.settings["training"] | {"max_steps": 1})
    model = copy.deepcopy(denoiser_of(generator)).to(device)
    learnt = [p for p in model.parameters() if p.requires_grad]
    for part in learnt:
        part.grad = torch.randn_like(part)
    optimizer = build_optimizer(learnt, options)
    live = [part.detach() for part in learnt]
    average = [part.clone() for part in live]
    noise = torch.empty(min(options.batch_size, PROFILES), model.width, device=device)

    def work() -> None:
        optimizer.step()
        torch._foreach_lerp_(average, live, 0.01)
        noise.normal_()

    return work


def in_a_row(work: Callable[[], None], count: int) -> Callable[[], None]:
    """A function that does the work so many times."""

    def repeated() -> None:
        for _ in range(count):
            work()

    return repeated


def rows(device: str) -> list[Row]:
    return [row for case in CASES for row in rows_of(case, device)]


def rows_of(case: str, device: str) -> list[Row]:
    auto, float32 = (Cost(step(case, device, precision)) for precision in ("auto", "float32"))
    floor = floor_of_a_step(lambda steps: train(case, steps, device, "auto"), device)
    # as many in a row as steps are timed: alone, a floor finds its operands outside the processor's caches
    count = STEPS.get(case, 6)
    calls = {"floor": in_a_row(floor, count), "besides": in_a_row(besides_products(case, device), count)}
    products, besides = (Cost(cost.seconds / count) for cost in measure(calls, 6, device).values())
    name = f"training step, {describe(case)}"
    return [
        Row(name, auto, "its matrix products", products, 1.3),
        Row(name, auto, "products, optimizer, average, noise", Cost(products.seconds + besides.seconds), 1.3),
        Row(f"{name}, `precision: auto`", auto, "`float32`", float32, 1.05),
    ]
