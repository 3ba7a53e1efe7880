"""The paper's networks at their full size, trained on simulated landmark profiles of the paper's number.

Usage: python -m benchmarks.paper_size [--presets tcga_paper gtex_paper] [--generators denoiser vae wgan_gp]
           [--steps N] [--profiles N] [--device auto]

Prints one row of Markdown for each training: seconds of a step and of the whole training, peak memory of the GPU,
seconds of a drawing, and how near the drawn profiles are to a test set. With ``--steps`` a training ends after so many
steps, and the time of a whole one is computed from the second half of them; without, everything runs to its end.
The critic of ``gtex_paper`` needs a thousand: its first three steps are so wild that the mean of a hundred counts as a
breakdown.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch

CONF = Path(__file__).resolve().parents[1] / "conf"
#: training, validation and test profiles, genes, tissues; and what the paper took for its denoiser on an A40
SIZES = {
    "tcga_paper": ((6499, 1625, 1625), 978, 24, "1 h 03 min"),
    "gtex_paper": ((9795, 2449, 5000), 974, 26, "3 h 07 min"),
}
GENERATORS = ("denoiser", "vae", "wgan_gp")
HEADER = """\
| preset | generator | parameters | steps of a training | ms a step | whole training | the paper's | GPU memory \
| profiles, seconds to draw | precision, recall, density, adv. accuracy |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"""


def cohort(preset: str) -> list[ad.AnnData]:
    """Simulated landmark profiles: training, validation, test."""
    from transcriptome_diffusion.cohorts.options import SimulationOptions
    from transcriptome_diffusion.cohorts.simulated import read_simulated

    counts, genes, tissues, _ = SIZES[preset]
    options = SimulationOptions(samples=sum(counts), tissues=tissues, targets=1)
    found = read_simulated(options)
    found = found[:, found.var["is_landmark"].to_numpy()][:, :genes].copy()
    found.X, found.uns["unit"] = np.log2(found.X + 1).astype(np.float32), "log2(CPM + 1)"
    order = np.random.default_rng(0).permutation(found.n_obs)
    return [found[rows].copy() for rows in np.split(order, np.cumsum(counts)[:-1])]


def block(preset: str, name: str) -> dict[str, Any]:
    """The parameters of a generator in a preset of conf/base."""
    from transcriptome_diffusion import settings

    arguments = {**settings.CONFIG_LOADER_ARGS, "runtime_params": {"preset": preset}}
    found: dict[str, Any] = settings.CONFIG_LOADER_CLASS(str(CONF), env="base", **arguments)["parameters"][name]
    return found


def shorten(training: dict[str, Any], steps: int) -> None:
    """A training of so many steps, whose rate moves as at the beginning of a whole one."""
    training |= {"max_steps": steps, "max_epochs": None, "validate_every": max(steps // 2, 1)}
    if training.get("learning_rate_schedule") == "one_cycle":
        training["peak_step"] = min(training["peak_step"], steps // 2)


def row(preset: str, name: str, parts: list[ad.AnnData], device: str, steps: int | None, profiles: int) -> str:
    from transcriptome_diffusion.expression.scaling import GeneScaler
    from transcriptome_diffusion.generators.registry import trained_models
    from transcriptome_diffusion.metrics.fidelity import fidelity

    parameters = block(preset, name)
    training = parameters["training"]
    training["device"] = device
    train, validation, test = parts
    rows = train.n_obs + validation.n_obs
    size = min(training["batch_size"], rows)
    per_epoch = rows // size + (rows % size >= 2)
    whole = training["max_epochs"] * per_epoch
    from transcriptome_diffusion import training as module

    if steps is not None:
        shorten(training, steps)
        if whole >= module.LONG_TRAINING:  # what is measured is a step of the whole training
            module.LONG_TRAINING = steps
    cuda = torch.cuda.is_available() and device != "cpu"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    spec = trained_models()[name]
    model = spec.load_class().fit(train, validation, spec.options.model_validate(parameters))
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if cuda else ""
    curve = model.record["curve"]
    half, last = curve[len(curve) // 2 - 1], curve[-1]
    step = (last["seconds"] - half["seconds"]) / (last["step"] - half["step"])
    seconds = model.record["seconds"] if steps is None else step * whole
    count = min(profiles, test.n_obs)
    started = time.perf_counter()
    drawn = model.sample(test.obs[["tissue"]][:count], seed=0)
    taken = time.perf_counter() - started
    scaler = GeneScaler.fit(train.X)
    found = fidelity(scaler(test.X[:count]), scaler(drawn.X), 10)
    names = ("precision", "recall", "density", "adversarial_accuracy")
    scores = ", ".join(f"{found[n]:.2f}" for n in names if n in found)
    logging.getLogger(__name__).info("%s %s: %s; %s", preset, name, last, found)
    cells = (
        preset,
        name,
        f"{model.record['parameters'] / 1e6:.1f} M",
        f"{whole:,}",
        f"{1e3 * step:.2f}",
        f"{seconds:,.0f} s{'' if steps is None else f' (computed from {steps:,} steps)'}",
        SIZES[preset][3] if name == "denoiser" else "",
        memory,
        f"{count:,}, {taken:.1f} s",
        scores,
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_size", description=__doc__)
    parser.add_argument("--presets", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--generators", nargs="+", choices=GENERATORS, default=list(GENERATORS))
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--profiles", type=int, default=2000, help="that are drawn and compared with a test set")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)

    from benchmarks.measure import describe_machine

    cuda = torch.cuda.is_available() and chosen.device != "cpu"
    print(f"{describe_machine('cuda' if cuda else 'cpu')}\n\n{HEADER}", flush=True)
    for preset in chosen.presets:
        parts = cohort(preset)
        for name in chosen.generators:
            print(row(preset, name, parts, chosen.device, chosen.steps, chosen.profiles), flush=True)


if __name__ == "__main__":
    main()
