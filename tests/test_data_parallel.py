"""One training in several processes: what they compute together is what one computes with the whole batch."""

from __future__ import annotations

import logging
import os
import signal
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transcriptome_diffusion import data_parallel
from transcriptome_diffusion.data_parallel import ALONE, RANK_STEP, Group, launch
from transcriptome_diffusion.options import TrainingOptions


@pytest.fixture(autouse=True)
def imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes come from one that has imported what they need, instead of importing it each, for seconds."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = get_context("forkserver")
    context.set_forkserver_preload(["transcriptome_diffusion.training"])  # not this module: it does not find it
    monkeypatch.setattr(data_parallel, "get_context", lambda _: context)


class Line(nn.Module):
    """Least squares with noise on the target.

    Args:
        parts: of a batch, each with random numbers of its own: those that a process would draw for its share.
    """

    def __init__(self, parts: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.line = nn.Linear(3, 1)
        self.parts = parts
        self.streams: list[torch.Generator] = []

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        x, y = batch
        if not self.streams:
            seeds = [generator.initial_seed() + RANK_STEP * part for part in range(self.parts)]
            self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.cat([torch.randn(len(x) // self.parts, generator=stream) for stream in self.streams])
        return (self.line(x)[:, 0] + noise - y).square().mean()

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        x, y = batch
        return (self.line(x)[:, 0] - y).square().mean()


class Duel(nn.Module):
    """Finds the mean of x against a linear critic, which takes two steps for each of the model's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mean = nn.Parameter(torch.zeros(3))
        self.critic = nn.Linear(3, 1, bias=False)
        self.critic_steps, self.critic_learning_rate = 2, 0.02

    def critic_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        return self.critic.weight.square().sum() - self.critic(batch[0].mean(0) - self.mean.detach()).sum()

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        return -self.critic(self.mean).sum()

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return (batch[0].mean(0) - self.mean).square().sum()

    def trouble(self, means: dict[str, float]) -> str | None:
        return None


class Interrupted(Line):
    """With dropout and batch norm; at one step it is killed, or the process of one rank is asked to end."""

    def __init__(self, at: int = -1, asked: bool = False, rank: int = 0) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.at, self.asked, self.rank, self.calls = at, asked, rank, 0

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            if not self.asked:
                raise KeyboardInterrupt
            if self.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
        x, y = batch
        noise = torch.randn(len(x), generator=generator)
        return (self.line(x)[:, 0] + self.hidden(x)[:, 0] + 0.1 * noise - y).square().mean()


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(250, 3, generator=generator)
    return x, x @ torch.tensor([1.0, -2.0, 0.5]) + 3


def options(**settings: Any) -> TrainingOptions:
    defaults = {"device": "cpu", "precision": "float32", "batch_size": 32, "max_steps": 30, "validate_every": 10}
    return TrainingOptions.model_validate({**defaults, "learning_rate": 0.05, "ema_decay": 0.9, **settings})


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for ours, theirs in zip(found["curve"], expected["curve"], strict=True):
        assert {**ours, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, rel=1e-4)


def many_trainings(group: Group, work: Any, arguments: Any, folder: Path) -> dict[str, Any]:
    """What the next test looks at, in ``folder``, after the training that the command asked for."""
    from transcriptome_diffusion import checkpoints, training

    def fit(model: nn.Module, place: str | None = None) -> dict[str, Any]:
        where = None if place is None else checkpoints.Checkpoints(folder / place)
        return training._fit(group, model, data(), data(), options(devices=2), 5, "training", where)

    record = work(group, *arguments)
    found: dict[str, Any] = {"duel": (fit(duel := Duel()), duel.state_dict())}
    whole = Interrupted()
    found["whole"] = fit(whole), whole.state_dict()
    checkpoints.INTERVAL, checkpoints.SHARE = 0.0, 1e9  # a checkpoint before every step
    for name, asked in {"killed": False, "asked": True}.items():
        with pytest.raises(SystemExit):
            fit(Interrupted(17, asked, group.rank), name)
        group.asked_to_end, again = False, Interrupted()
        found[name] = fit(again, name), again.state_dict(), again.calls
    found["ranks"] = group.gather(dict(whole.state_dict()))
    if group.rank == 0:
        torch.save(found, folder / "found")
    return record


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_whole_batch_and_go_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transcriptome_diffusion import training

    def launched(work: Any, size: int, *arguments: Any, what: str) -> Any:  # new processes take seconds to start
        return launch(many_trainings, size, work, arguments, tmp_path, what=what)

    monkeypatch.setattr(training, "launch", launched)
    alone, together, before, duel = Line(parts=2), Line(), Line(), Duel()
    expected = training.fit(alone, data(), data(), options(), seed=5)
    with caplog.at_level(logging.INFO, logger="transcriptome_diffusion"):
        record = training.fit(together, data(), data(), options(devices=2), seed=5, title="both")
    same(record, expected)
    torch.testing.assert_close(together.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-5)
    assert (together.line.weight - before.line.weight).abs().max() > 0.3
    assert not together.training
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("both: step 10 of 30, loss")]

    found = torch.load(tmp_path / "found", weights_only=True)
    same(found["duel"][0], training.fit(duel, data(), data(), options(), seed=5))
    torch.testing.assert_close(dict(found["duel"][1]), dict(duel.state_dict()), rtol=1e-4, atol=1e-5)
    record, weights = found["whole"]
    for name, step in {"killed": 16, "asked": 17}.items():
        again, others, calls = found[name]
        assert calls == 30 - step
        for ours, theirs in zip(again["curve"], record["curve"], strict=True):
            assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
        torch.testing.assert_close(dict(others), dict(weights), rtol=0, atol=0)
    torch.testing.assert_close(found["ranks"][0], found["ranks"][1], rtol=0, atol=0)


def refuse(group: Group) -> None:
    raise ValueError(f"no such tissue in {group.size}")


def end(group: Group) -> None:
    """One process is killed while the other one waits for it."""
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    group.any(True)


def test_an_error_in_a_process_is_raised_here_and_a_lost_process_is_named() -> None:
    with pytest.raises(ValueError, match="no such tissue in 1"):
        launch(refuse, 1)
    lost = r"vae: process 2 of 2 \(`training.devices`\) was lost with exit code -9; .* Use fewer devices"
    with pytest.raises(RuntimeError, match=lost):
        launch(end, 2, what="vae")
    assert not active_children()


def test_a_process_alone_asks_nobody() -> None:
    values = [torch.ones(2), torch.zeros(3)]
    ALONE.average(values)
    assert values[0].tolist() == [1, 1]
    assert ALONE.any(True, False) == [True, False]
    assert ALONE.gather("x") == ["x"]


def test_every_row_goes_to_one_process_and_the_rest_that_they_cannot_share_to_none() -> None:
    from transcriptome_diffusion.training import MemoryBatches

    rows = torch.arange(23)
    streams = [iter(MemoryBatches([rows], 9, 0, partial=True, group=Group(rank, 2))) for rank in range(2)]
    (whole,) = next(iter(MemoryBatches([rows], 8, 0)))
    shares = [[next(stream)[0].tolist() for stream in streams] for _ in range(3)]
    assert [*shares[0][0], *shares[0][1]] == whole.tolist()
    assert [[len(share) for share in batch] for batch in shares] == [[4, 4], [4, 4], [3, 3]]
    assert len({row for batch in shares for share in batch for row in share}) == 22


def test_more_devices_than_there_are_and_too_small_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="`batch_size` 7 is too small for `devices` 4: two for each"):
        options(batch_size=7, devices=4)
