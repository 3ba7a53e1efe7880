"""What is said of a training before it starts."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from transcriptome_diffusion import training_cost
from transcriptome_diffusion.generators.latent import Coordinates
from transcriptome_diffusion.generators.options import WGANGPOptions
from transcriptome_diffusion.generators.wgan_gp import WGANGP
from transcriptome_diffusion.options import TrainingOptions
from transcriptome_diffusion.training_cost import (
    Layers,
    announce,
    announce_run,
    duration,
    measure_pass,
    measure_rate,
    operations,
    work_of_training,
)

CPU = torch.device("cpu")


def test_operations_are_those_that_torch_counts_in_a_step_of_dense_layers() -> None:
    network = nn.Sequential(nn.Linear(60, 80, bias=False), nn.ReLU(), nn.Linear(80, 50, bias=False))
    x = torch.randn(16, 60, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    weights = sum(weight.numel() for weight in network.parameters())
    assert counter.get_total_flops() == operations(weights, 16, 1)


class Products(TorchDispatchMode):
    """Counts operations of matrix products; torch's counter takes no gradient of a gradient."""

    operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sides = {torch.ops.aten.mm.default: args[:2], torch.ops.aten.addmm.default: args[1:3]}.get(function)
        if sides:
            self.operations += 2 * sides[0].shape[0] * sides[0].shape[1] * sides[1].shape[1]
        return function(*args, **(kwargs or {}))


def test_steps_of_a_critic_are_counted_with_the_gradient_of_their_penalty() -> None:
    block = {"space": "genes", "hidden": [64, 128], "critic": {"hidden": [128, 96], "steps": 5}}
    options = WGANGPOptions.model_validate(block)
    objective = WGANGP.to_train(Coordinates(100, None), [3], options)
    batch, generator = (torch.randn(16, 100), torch.zeros(16, 1, dtype=torch.int64)), torch.Generator()
    with Products() as counted:
        for _ in range(options.critic.steps):
            objective.critic_loss(batch, generator)["loss"].backward()
        objective.training_loss(batch, generator).backward()
    critic, whole = (sum(p.numel() for p in part.parameters()) for part in (objective.critic, objective))
    assert operations(whole, 16, 1, critic, options.critic.steps) == pytest.approx(counted.operations, rel=0.05)


def test_the_rate_is_of_products_that_were_made() -> None:
    # a processor makes between ten million and a thousand million million operations a second
    before = torch.get_float32_matmul_precision()
    assert 1e7 < measure_rate(10_000, 64, CPU, bfloat16=True) < 1e15
    assert torch.get_float32_matmul_precision() == before
    assert 1e-12 < measure_pass(CPU) < 1e-6


def test_a_large_training_is_announced_with_time_and_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_cost, "measure_rate", lambda *_: 1e12)
    with caplog.at_level(logging.INFO, logger=training_cost.__name__):
        announce("denoiser", 227_601_318, 2048, 90_000, CPU, bfloat16=True)
    # 2.5e17 operations at 1e12 a second are 2.5e5 s
    assert re.search(
        r"denoiser: 227\.6 million parameters, 90000 steps of 2048 profiles.*: 3 days to 7 days", caplog.text
    )
    assert "4.6 GB" in caplog.text


def test_a_small_training_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=training_cost.__name__):
        announce("vae", 400_000, 128, 1500, CPU, bfloat16=False)
    assert not caplog.records


def test_an_estimate_is_that_of_products_of_what_lies_between_them_and_of_calls(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_cost, "measure_rate", lambda *_: 1e10)
    monkeypatch.setattr(training_cost, "measure_pass", lambda _: 1e-9)
    network = Layers(parameters=1000, numbers=300)
    options = TrainingOptions(batch_size=10, max_epochs=100, partial_batches=True)
    work = work_of_training("vae", 3, options, 25, network, Layers(), 0, memory=2e9)
    assert "300 steps of 10 profiles" in work.title  # 25 profiles are two batches and a rest
    assert work.operations == operations(1000, 10, 300)
    assert work.numbers == 300 * (10 * 300 + 1000)
    seconds = 3 * (6 * 1000 * 10 * 300 / 1e10 + 10 * 300 * 4000 * 1e-9 + 2e-3 * 300)
    assert work.seconds(CPU, 1e-9) == pytest.approx(seconds)
    done = replace(work, runs=0, memory=0.0)
    long = replace(work, title="wgan_gp: slow", calls=1e6)
    with caplog.at_level(logging.INFO, logger=training_cost.__name__):
        announce_run([done], "10 profiles")
        assert not caplog.records
        announce_run([done, work, long], "10 profiles")
    (record,) = caplog.records
    head, first, second, memory, _ = record.getMessage().split("\n")
    assert head.endswith("one after another, with 10 profiles:")
    assert first == f"  3 x {work.title}: 1 s to 3 s"
    assert second == "  3 x wgan_gp: slow: 63 min to 2.7 h"
    assert memory == "Memory of trainings: up to 2.0 GB, for vae."


def test_a_critics_new_batches_make_fewer_steps_and_its_passes_are_counted() -> None:
    whole, critic = Layers(1000, 300), Layers(400, 100)
    same, new = (
        work_of_training(
            "", 1, TrainingOptions(batch_size=10, max_epochs=10, critic_batches=batches), 20, whole, critic, 5, 0.0
        )
        for batches in ("same", "new")
    )
    assert (same.calls, new.calls) == (20 * 11, 4 * 11)
    assert same.operations == operations(1000, 10, 20, 400, 5)


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (720, "12 min"), (12_600, "3.5 h"), (6 * 86_400, "6 days")]
)
def test_durations_are_for_readers(seconds: float, text: str) -> None:
    assert duration(seconds) == text
