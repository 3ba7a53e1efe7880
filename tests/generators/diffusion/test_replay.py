"""Drawing on a GPU with its network as a graph: the profiles of a CPU."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from test_contract import cohort
from torch import Tensor

from transcriptome_diffusion.generators.diffusion import replay
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.options import DiffusionOptions

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED FOR LACK OF A GPU")


def model(kind: str) -> Any:
    settings: dict[str, Any] = {"conditions": ["tissue", "sex"], "marginal_map": False, "components_per_sample": 0.2}
    settings["network"] = {"kind": kind, "width": 32, "depth": 2, "embedding_dim": 2 if kind == "paper" else 16}
    settings["training"] = {"max_steps": 200, "validate_every": 100, "batch_size": 64, "device": "cpu"}
    settings["training"] |= {"learning_rate": 3e-3}
    if kind == "paper":
        settings |= {"prediction": "eps"}
    return Diffusion.fit(cohort(200, 1), cohort(60, 2), DiffusionOptions.model_validate(settings))


@on_gpu
@pytest.mark.parametrize("kind", ["film", "paper"])
def test_a_gpu_draws_the_profiles_of_a_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = []
    record = replay.ReplayedNetwork.record

    def noticed(self: replay.ReplayedNetwork, inputs: tuple[Tensor, ...]) -> replay.Recorded:
        recorded.append(inputs[0].shape)
        return record(self, inputs)

    monkeypatch.setattr(replay.ReplayedNetwork, "record", noticed)
    trained, labels = model(kind), cohort(300, 3).obs
    samplers = [trained.sampler_for_map().model_copy(update={"device": device}) for device in ("cpu", "cuda")]
    drawn = [trained.sample(labels, batch_size=128, sampler=sampler).X for sampler in samplers]
    assert [shape[0] for shape in recorded] == [128, 300 - 2 * 128]
    np.testing.assert_allclose(drawn[1], drawn[0], rtol=1e-3, atol=1e-3)


@on_gpu
def test_drawing_goes_on_without_a_graph_that_cannot_be_recorded(caplog: pytest.LogCaptureFixture) -> None:
    def waits(x: Tensor, time: Tensor, codes: Tensor) -> Tensor:
        return x * float(time.sum())  # a graph has no number yet

    network, x = replay.ReplayedNetwork(waits), torch.ones((4, 3), device="cuda")
    codes = torch.zeros((4, 1), dtype=torch.int64, device="cuda")
    with caplog.at_level(logging.WARNING):
        for call in range(replay.WARM_UP + 2):
            time = torch.full((1,), float(call), device="cuda")
            torch.testing.assert_close(network(x, time, codes), x * call)
    assert "goes on without CUDA graphs" in caplog.text
