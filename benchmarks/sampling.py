"""1,000 profiles in 50 steps, beside the matrix products of the same shapes alone; memory at 50 and at 200 steps.

The second floor adds two passes over all coordinates a step: one makes the network's input, one the next state.
"""

from __future__ import annotations

import pandas as pd
import torch

from benchmarks.measure import Cost, Row, floor_of_a_step, measure, once
from benchmarks.training import CASES, TISSUES, denoiser_of, describe, fitted

PROFILES, STEPS = 1000, 50


def rows(device: str) -> list[Row]:
    return [row for case in CASES for row in rows_of(case, device)]


def rows_of(case: str, device: str) -> list[Row]:
    from transcriptome_diffusion.generators.registry import GENERATORS

    generator, options = fitted(case), GENERATORS["ddim"].sampler
    labels = pd.DataFrame({"tissue": [f"t{i % TISSUES}" for i in range(PROFILES)]})
    assert options is not None

    def sample(steps: int) -> None:
        sampler = options.model_validate({"name": "ddim", "steps": steps, "device": device})
        generator.sample(labels, seed=0, sampler=sampler)

    one = floor_of_a_step(sample, device)
    state, estimate, seen = torch.randn(3, PROFILES, denoiser_of(generator).width, device=device)
    factor = torch.ones(state.shape[1], device=device)

    def floor() -> None:
        for _ in range(STEPS):
            one()

    def passes() -> None:
        for _ in range(STEPS):
            torch.mul(state, factor, out=seen)
            torch.addcmul(seen, factor, estimate, out=state)

    small = case == next(iter(CASES))  # and short, so that other work disturbs it more
    costs = measure({"ours": lambda: sample(STEPS), "floor": floor, "passes": passes}, 10 if small else 2, device)
    name = f"1,000 profiles in {STEPS} steps, {describe(case)}"
    products, both = costs["floor"].seconds, costs["floor"].seconds + costs["passes"].seconds
    found = [
        Row(name, costs["ours"], "its matrix products", Cost(products), 1.3),
        Row(name, Cost(costs["ours"].seconds), "products and two passes over the state", Cost(both), 1.3),
    ]
    if small:  # the sampler's memory does not depend on the network
        few, many = (Cost(once(lambda steps=steps: sample(steps), device)[1]) for steps in (STEPS, 4 * STEPS))
        found.append(Row(f"memory of {4 * STEPS} steps, {case}", many, f"{STEPS} steps", few, 1.5, "MB"))
    return found
