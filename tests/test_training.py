"""The trainer: what it optimises, averages, keeps, records and leaves alone."""

from __future__ import annotations

import errno
import logging
import math
import os
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from transcriptome_diffusion import checkpoints, training
from transcriptome_diffusion.devices import autocasts, multiplies_bfloat16, resolve_device
from transcriptome_diffusion.options import TrainingOptions


def options(**settings: Any) -> TrainingOptions:
    defaults = {
        "device": "cpu",
        "precision": "float32",
        "batch_size": 32,
        "max_steps": 40,
        "validate_every": 10,
    }
    return TrainingOptions.model_validate({**defaults, **settings})


class Regression(nn.Module):
    """Least squares, the simplest thing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self.dropout = nn.Dropout(0.1)
        self.seen: list[torch.dtype] = []

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        x, y = batch
        found = self.line(x)
        self.seen.append(found.dtype)
        return (found.float()[:, 0] - y).square().mean()

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        x, y = batch
        return (self.line(x).float()[:, 0] - y).square().mean()


class Climber(nn.Module):
    """Training drives the height up without end, validation likes it at one half."""

    def __init__(self) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.zeros(()))

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        return -self.height

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return (self.height - 0.5).square()


def line_data(n: int = 256) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=generator)
    return x, x @ torch.tensor([1.0, -2.0, 0.5]) + 3 + 0.1 * torch.randn(n, generator=generator)


def test_training_finds_the_least_squares_line() -> None:
    model, (x, y) = Regression(), line_data()
    chosen = options(max_steps=400, learning_rate=0.1, weight_decay=0.0, ema_decay=0.9)
    training.fit(model, (x, y), (x, y), chosen, seed=0)
    exact = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), y[:, None]).solution[:, 0]
    torch.testing.assert_close(model.line.weight[0], exact[:3], atol=0.02, rtol=0)
    torch.testing.assert_close(model.line.bias[0], exact[3], atol=0.02, rtol=0)
    assert not model.training


def test_the_curve_and_the_record_say_what_happened() -> None:
    model, data = Regression(), line_data()
    record = training.fit(model, data, data, options(learning_rate=0.05), seed=0)
    assert [point["step"] for point in record["curve"]] == [10, 20, 30, 40]
    assert record["curve"][-1]["train_loss"] < record["curve"][0]["train_loss"]
    assert record["curve"][-1]["learning_rate"] == pytest.approx(0, abs=1e-4)
    assert [point["epoch"] for point in record["curve"]] == [1.25, 2.5, 3.75, 5]  # of 8 batches each
    assert {"device": "cpu", "precision": "float32", "steps": 40, "parameters": 4}.items() <= record.items()
    assert record["stopped"] is None
    with torch.no_grad():
        kept = float(model.validation_loss(data))
    assert kept == pytest.approx(record["best_validation_loss"], rel=1e-5)


@pytest.mark.parametrize(("keep", "expected"), [("best", 0.5), ("last", 2.0)])
def test_the_weights_of_the_best_validation_or_the_last_step_are_kept(keep: str, expected: float) -> None:
    climbing = options(
        max_steps=200,
        validate_every=2,
        learning_rate=0.01,
        learning_rate_schedule="constant",
        warmup=0,
        weight_decay=0,
        ema_decay=0.0,
        keep=keep,
    )
    model = Climber()
    record = training.fit(model, line_data(), line_data(), climbing, seed=0)
    # Adam's steps under a constant gradient are the learning rate long
    assert float(model.height.detach()) == pytest.approx(expected, abs=0.03)
    assert record["best_step"] == pytest.approx(50, abs=3)


def test_patience_ends_training_after_so_many_validations_without_a_gain() -> None:
    stopping = options(
        max_steps=500,
        learning_rate=0.01,
        learning_rate_schedule="constant",
        warmup=0,
        ema_decay=0,
        patience=3,
    )
    record = training.fit(Climber(), line_data(), line_data(), stopping, seed=0)
    assert record["steps"] == record["best_step"] + 30
    assert record["stopped"].endswith(f"no gain on validation donors since step {record['best_step']}")


class Averaged(L.LightningModule):
    """A layer as a callback meets it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


def averaging(layer: nn.Module, decay: float, warmup: bool = True) -> Any:
    """A function that sets the step reached and lets the average follow, and one that ends training."""
    average, module = training.MovingAverage(decay, warmup), Averaged(layer)
    trainer: Any = SimpleNamespace(global_step=0)
    average.setup(trainer, module, "fit")

    def step(number: int) -> None:
        trainer.global_step = number
        average.on_train_batch_end(trainer, module)

    return step, lambda: average.on_train_end(trainer, module)


@pytest.mark.parametrize("warmup", [True, False])
def test_the_moving_average_follows_its_recursion(warmup: bool) -> None:
    layer = nn.Linear(1, 1, bias=False)
    values = np.random.default_rng(0).normal(size=30)
    expected = values[0]
    layer.weight.data.fill_(values[0])
    step, end = averaging(layer, decay=0.9, warmup=warmup)
    for number, value in enumerate(values, start=1):
        layer.weight.data.fill_(value)
        step(number)
        step(number)  # the critic's batches between two steps do not count
        decay = min(0.9, (1 + number) / (10 + number)) if warmup else 0.9
        expected = decay * expected + (1 - decay) * value
    end()
    assert float(layer.weight.detach()) == pytest.approx(expected, rel=1e-5)


def test_batch_statistics_are_averaged_with_the_weights() -> None:
    layer = nn.BatchNorm1d(1)
    step, end = averaging(layer, decay=0.5)
    layer.running_mean.fill_(8.0)  # type: ignore[union-attr]
    step(100)
    end()
    assert float(layer.running_mean) == 4.0  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", ["training_loss", "validation_loss"])
def test_a_loss_that_is_no_number_stops_with_the_step_and_the_remedy(broken: str) -> None:
    model = Regression()
    setattr(model, broken, lambda *_: model.line.weight.sum() * math.nan)
    with pytest.raises(training.TrainingDivergedError, match=r"nan.*at step 10 .*learning_rate.*nothing is kept"):
        training.fit(model, line_data(), line_data(), options(), seed=0)


@pytest.mark.parametrize(("keep", "max_steps"), [("last", 49), ("last", 100), ("best", 100)])
def test_a_breakdown_is_told_and_the_last_good_weights_are_kept(
    keep: str, max_steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    model, data = Regression(), line_data()
    healthy = model.training_loss
    model.training_loss = lambda *a: healthy(*a) * (math.nan if len(model.seen) > 45 else 1)  # type: ignore[method-assign]
    chosen = options(max_steps=max_steps, keep=keep, learning_rate_schedule="constant")
    record = training.fit(model, data, data, chosen, seed=0)
    assert "averaged weights of step 40 are kept" in record["stopped"]
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [record["stopped"]]
    assert record["steps"] <= 50
    assert [point["step"] for point in record["curve"]] == [10, 20, 30, 40]
    with torch.no_grad():
        assert float(model.validation_loss(data)) == pytest.approx(record["curve"][-1]["validation_loss"], rel=1e-6)


class Named(Regression):
    """Tells the two halves of its loss apart."""

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Any:
        loss = super().training_loss(batch, generator)
        return {"loss": loss, "half": loss / 2}

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Any:
        loss = super().validation_loss(batch)
        return {"loss": loss, "third": loss / 3}


def test_named_terms_go_into_the_curve_and_change_nothing_else() -> None:
    def curve(model: nn.Module) -> list[dict[str, float]]:
        torch.manual_seed(0)
        model.line.reset_parameters()  # type: ignore[operator, union-attr]
        return training.fit(model, line_data(), line_data(), options(), seed=0)["curve"]

    for plain, found in zip(curve(Regression()), curve(Named()), strict=True):
        assert found["train_loss"] == plain["train_loss"]
        assert found["half"] == pytest.approx(plain["train_loss"] / 2, rel=1e-6)
        assert found["validation_third"] == pytest.approx(plain["validation_loss"] / 3, rel=1e-6)


def test_epochs_set_the_number_of_steps() -> None:
    data = line_data(256)
    assert training.fit(Regression(), data, data, options(max_epochs=3), seed=0)["steps"] == 3 * 8
    # a batch larger than the data is one step per epoch
    assert training.fit(Regression(), data, data, options(max_epochs=3, batch_size=999), seed=0)["steps"] == 3


class Duel(nn.Module):
    """Finds the mean of x against a linear critic; who steps when is written down."""

    def __init__(self, critic_steps: int = 3) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(3))
        self.critic = nn.Linear(3, 1, bias=False)
        self.critic_steps, self.critic_learning_rate = critic_steps, 0.02
        self.moves: list[str] = []
        self.estimate = 1.0

    def critic_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        self.moves.append("c")
        apart = self.critic(batch[0].mean(0) - self.mean.detach()).sum()
        return {"loss": self.critic.weight.square().sum() - apart, "wasserstein": apart}

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        self.moves.append("m")
        return -self.critic(self.mean).sum()

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        return (batch[0].mean(0) - self.mean).square().sum()

    def trouble(self, means: dict[str, float]) -> str | None:
        return "the critic exploded" if len(self.moves) > 100 * self.estimate else None


def test_a_critic_steps_more_often_and_the_models_steps_are_counted() -> None:
    model, (x, _) = Duel(), line_data()
    x = x + torch.tensor([1.0, -2.0, 0.5])
    model.estimate = math.inf
    playing = options(max_steps=300, optimizer="rmsprop", learning_rate=0.02, weight_decay=0, ema_decay=0.9)
    record = training.fit(model, (x,), (x,), playing, seed=0)
    assert "".join(model.moves) == "cccm" * 300
    assert record["steps"] == 300
    assert [point["step"] for point in record["curve"]] == list(range(10, 301, 10))
    assert record["curve"][0]["epoch"] == pytest.approx(30 / 8)  # the critic's batches
    assert {"wasserstein", "critic_loss"} <= record["curve"][0].keys()
    torch.testing.assert_close(model.mean.detach(), x.mean(0), atol=0.1, rtol=0)


def test_critic_and_model_can_make_all_their_steps_on_every_batch() -> None:
    model, (x, _) = Duel(critic_steps=5), line_data(256)
    model.estimate = math.inf
    seen: list[float] = []
    critic_loss, training_loss = model.critic_loss, model.training_loss

    def watched(loss: Any) -> Any:
        def call(batch: tuple[Tensor, ...], generator: torch.Generator) -> Any:
            seen.append(float(batch[0].sum()))
            return loss(batch, generator)

        return call

    model.critic_loss, model.training_loss = watched(critic_loss), watched(training_loss)  # type: ignore[method-assign]
    playing = options(max_epochs=2, optimizer="rmsprop", weight_decay=0, critic_batches="same", validate_every=16)
    record = training.fit(model, (x,), (x,), playing, seed=0)
    batches = 2 * 256 // 32
    assert record["steps"] == batches
    assert "".join(model.moves) == "cccccm" * batches
    rounds = [seen[start : start + 6] for start in range(0, len(seen), 6)]
    assert all(len(set(values)) == 1 for values in rounds)
    assert len({values[0] for values in rounds}) == batches
    assert record["curve"][-1]["epoch"] == pytest.approx(2)


def test_a_critic_that_explodes_ends_training_and_leaves_good_weights() -> None:
    model, (x, _) = Duel(), line_data()
    record = training.fit(model, (x,), (x,), options(max_steps=300), seed=0)
    # 4 moves a step: 25 steps make 100, the next validation is at 30
    assert "the critic exploded at step 30" in record["stopped"]
    assert record["steps"] == 30
    assert record["curve"][-1]["step"] == 20


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("rmsprop", "RMSprop")])
def test_the_optimizer_is_the_one_asked_for(name: str, kind: str) -> None:
    chosen = options(optimizer=name, betas=(0.5, 0.9), weight_decay=0.25, learning_rate=0.125)
    frozen, learnt = nn.Parameter(torch.zeros(1), requires_grad=False), nn.Parameter(torch.zeros(1))
    optimizer = training.build_optimizer([frozen, learnt], chosen)
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == kind
    assert group["params"] == [learnt]
    assert (group["lr"], group["weight_decay"]) == (0.125, 0.25)
    assert group.get("betas", (0.5, 0.9)) == (0.5, 0.9)


def test_the_seed_decides_and_the_global_state_is_left_as_it_was() -> None:
    def trained(seed: int) -> Tensor:
        torch.manual_seed(0)
        model = Regression()
        state, precision, threads = (
            torch.get_rng_state(),
            torch.get_float32_matmul_precision(),
            torch.get_num_threads(),
        )
        training.fit(model, line_data(), line_data(), options(threads=1), seed)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_float32_matmul_precision() == precision
        assert torch.get_num_threads() == threads
        return model.line.weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_nothing_is_written_and_lightning_keeps_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recwarn: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    # our own lines go wherever logging is configured to, which is not what is looked for here
    monkeypatch.setattr(training.logger, "disabled", True)
    training.fit(Regression(), line_data(), line_data(), options(), seed=0)
    assert list(tmp_path.iterdir()) == []
    written = capfd.readouterr()
    assert written.out == ""
    assert "GPU" not in written.err
    assert [str(w.message) for w in recwarn if "lightning" in str(w.filename)] == []


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint before every step."""
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", math.inf)


class Killed(BaseException):
    """Ends a training at once, in the midst of a step."""


class Wide(Regression):
    """With everything that has a state: dropout, statistics of batches, random numbers of the loss."""

    def __init__(self, killed_at: int | None = None, terminated_at: int | None = None) -> None:
        torch.manual_seed(3)
        super().__init__()
        self.terminated_at = terminated_at
        self.hidden = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.calls, self.killed_at = 0, killed_at

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        self.calls += 1
        if self.calls == self.killed_at:
            raise Killed
        if self.calls == self.terminated_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x, y = batch
        noise = torch.randn(len(x), generator=generator)
        return (self.line(x)[:, 0] + self.hidden(x)[:, 0] + 0.1 * noise - y).square().mean()


class KilledDuel(Duel):
    """Two players, of which the first is killed."""

    def __init__(self, killed_at: int | None = None) -> None:
        torch.manual_seed(3)
        super().__init__()
        self.estimate, self.killed_at = math.inf, killed_at

    def critic_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> dict[str, Tensor]:
        if len(self.moves) == self.killed_at:
            raise Killed
        return super().critic_loss(batch, generator)


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    curve = [{name: value for name, value in entry.items() if name != "seconds"} for entry in record["curve"]]
    return {**record, "curve": curve, "seconds": None}


# 10 steps lie between two validations, 8 batches in an epoch
@pytest.mark.parametrize(
    ("kind", "killed_at", "settings"),
    [
        (Wide, 1, {}),
        (Wide, 11, {"learning_rate_schedule": "one_cycle", "optimizer": "adam"}),
        (Wide, 26, {"partial_batches": True, "keep": "last"}),
        (Wide, 15, {"learning_rate": 0.5, "patience": 1, "keep": "last"}),
        (KilledDuel, 41, {}),
        (KilledDuel, 81, {"critic_batches": "same", "optimizer": "rmsprop"}),
    ],
)
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, eager: None, kind: Any, killed_at: int, settings: dict[str, Any]
) -> None:
    data, chosen = line_data(250 if "partial_batches" in settings else 256), options(**settings)
    whole = kind()
    expected = training.fit(whole, data, data, chosen, seed=5)
    assert (expected["steps"] < 40) == ("patience" in settings)
    with pytest.raises(Killed), checkpoints.checkpoints_in(tmp_path / "checkpoints"):
        training.fit(kind(killed_at), data, data, chosen, seed=5)
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == [".ckpt"]
    with checkpoints.checkpoints_in(tmp_path / "checkpoints"):
        again = kind()
        found = training.fit(again, data, data, chosen, seed=5)
    assert without_seconds(found) == without_seconds(expected)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    steps = again.calls if isinstance(again, Wide) else len(again.moves)
    assert steps < (whole.calls if isinstance(whole, Wide) else len(whole.moves)) or killed_at == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_training_is_named_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(at: int, rows: int = 256, seed: int = 5, width: int = 1, **settings: Any) -> list[str]:
        caplog.clear()
        data = line_data(rows)
        with pytest.raises(Killed), checkpoints.checkpoints_in(tmp_path, options={"width": width}):
            training.fit(Wide(at), data, data, options(**settings), seed)
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", math.inf)
    assert start(3) == []
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(checkpoints, "INTERVAL", 60.0)
    assert start(1) == []
    for change, named in (
        ({"learning_rate": 0.5}, r"(training.learning_rate: 0.001, now 0.5)"),
        ({"seed": 6, "width": 2}, r"(options.width: 1, now 2; training.seed: 5, now 6)"),
        ({"rows": 255}, "(profiles: "),
    ):
        (warning,) = start(1, **change)
        assert "is of other settings " + named in warning
        assert warning.endswith("starting afresh")
    for content in (b"", file.read_bytes()[:500], pickle.dumps({"about": Path()}, protocol=2)):
        file.write_bytes(content)
        (warning,) = start(1)
        assert "cannot be read" in warning


def test_short_trainings_write_no_checkpoint_and_a_full_disk_ends_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written: list[Path] = []

    def full(checkpoint: Any, file: Any) -> None:
        written.append(Path(file.name))
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(torch, "save", full)
    (tmp_path / "of another").touch()
    with checkpoints.checkpoints_in(tmp_path):
        training.fit(Wide(), line_data(), line_data(), options(), seed=5)
    assert written == []
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", math.inf)
    with checkpoints.checkpoints_in(tmp_path / "c"):
        record = training.fit(Wide(), line_data(), line_data(), options(max_steps=2), seed=5)
    assert record["steps"] == len(written) == 2
    assert "training goes on: " in caplog.text
    assert "no space is left on the disk" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["of another"]


def test_a_process_that_is_asked_to_end_writes_a_checkpoint_first(tmp_path: Path) -> None:
    data, whole, again = line_data(), Wide(), Wide()
    with pytest.raises(SystemExit), checkpoints.checkpoints_in(tmp_path / "c"):
        training.fit(Wide(terminated_at=25), data, data, options(), seed=5)
    training.fit(whole, data, data, options(), seed=5)
    with checkpoints.checkpoints_in(tmp_path / "c"):
        training.fit(again, data, data, options(), seed=5)
    assert again.calls == 40 - 25
    torch.testing.assert_close(dict(again.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_a_terminal_shows_a_bar_over_all_steps_and_no_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with caplog.at_level(logging.INFO, logger=training.__name__):
        training.fit(Regression(), line_data(), line_data(), options(max_steps=60), seed=0, title="the title")
    assert caplog.records == []
    shown = capsys.readouterr().out
    assert "the title: 100%" in shown
    assert "60/60" in shown
    assert "validation_loss=" in shown
    assert "Epoch" not in shown
    assert "Validation" not in shown


@pytest.mark.parametrize(
    ("parameters", "adversarial", "kind", "given", "expected"),
    [
        (1000, False, "cpu", {"precision": "auto"}, (1, "float32")),
        (10**7, False, "cpu", {"precision": "auto"}, (None, "auto")),
        (10**7, True, "cpu", {"precision": "auto"}, (None, "auto")),
        (1000, False, "cuda", {"precision": "auto"}, (None, "tensorfloat32")),
        (10**7, False, "cuda", {"precision": "auto"}, (None, "auto")),
        (10**7, True, "cuda", {"precision": "auto"}, (None, "tensorfloat32")),
        (10**7, True, "cuda", {"precision": "bfloat16"}, (None, "bfloat16")),
        (1000, False, "cpu", {"precision": "bfloat16", "threads": 3}, (3, "bfloat16")),
    ],
)
def test_threads_and_precision_are_settled_where_bfloat16_gains_nothing(
    parameters: int, adversarial: bool, kind: str, given: dict[str, Any], expected: tuple[int | None, str]
) -> None:
    found = training.settled(options(**given), parameters, adversarial, torch.device(kind))
    assert (found.threads, found.precision) == expected


def test_float32_means_float32_and_auto_never_casts_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert not multiplies_bfloat16("float32", cpu)
    assert not autocasts("auto", cpu)
    assert autocasts("bfloat16", cpu)
    assert not autocasts(training.TENSOR_FLOAT, cpu)
    for precision, expected in {"float32": "highest", "auto": "medium", training.TENSOR_FLOAT: "medium"}.items():
        with training.compute_settings(0, cpu, None, precision):
            assert torch.get_float32_matmul_precision() == expected


def test_away_from_a_terminal_a_line_is_logged_at_each_tenth(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=training.__name__):
        training.fit(Regression(), line_data(), line_data(), options(max_steps=60, validate_every=2), seed=0, title="x")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 10
    assert lines[0].startswith("x: step 6 of 60, loss")
    assert lines[-1].endswith("0 s left")


def test_bfloat16_is_for_products_only() -> None:
    model = Regression()
    record = training.fit(model, line_data(), line_data(), options(precision="bfloat16"), seed=0)
    assert set(model.seen) == {torch.bfloat16}
    assert model.line.weight.dtype == torch.float32
    assert record["precision"] == "bfloat16"


def test_gradients_are_clipped_to_the_norm_asked_for() -> None:
    model = Regression()
    module = training.FitModule(model, options(gradient_clip=0.5), seed=0, device=torch.device("cpu"))
    (1e3 * model.training_loss(line_data(), module.generator)).backward()
    module.on_before_optimizer_step(torch.optim.SGD(model.parameters(), 1.0))
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.5, rel=1e-4)


def rates(**settings: Any) -> list[float]:
    chosen = options(max_steps=100, learning_rate=0.1, **settings)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=chosen.learning_rate)
    schedule = training.schedule(optimizer, chosen)
    found = []
    for _ in range(100):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_learning_rates_follow_their_schedules() -> None:
    cosine = rates(learning_rate_schedule="cosine", warmup=0.1)
    assert cosine[0] == pytest.approx(0.01)
    assert cosine[10] == pytest.approx(0.1)
    assert cosine[55] == pytest.approx(0.05)
    assert cosine[-1] < 1e-4
    assert rates(learning_rate_schedule="constant", warmup=0.1)[10:] == [pytest.approx(0.1)] * 90
    one_cycle = rates(learning_rate_schedule="one_cycle")
    assert max(one_cycle) == pytest.approx(0.1, rel=1e-2)
    assert one_cycle[0] == pytest.approx(0.1 / 25)
    assert one_cycle[-1] < 1e-3


def test_batches_are_full_shuffled_and_use_every_row_equally() -> None:
    rows = torch.arange(10)
    stream = iter(training.MemoryBatches([rows, rows * 2], batch_size=4, seed=0))
    counts = torch.zeros(10)
    for _ in range(500):
        first, second = next(stream)
        again, _ = next(stream)
        assert len(first) == 4
        assert torch.equal(second, first * 2)
        assert len(set(first.tolist() + again.tolist())) == 8  # within an epoch no row comes twice
        counts[first] += 1
        counts[again] += 1
    # of 500 epochs of 8 draws out of 10 rows: 400 each, within five binomial deviations
    assert (counts - 400).abs().max() < 5 * math.sqrt(500 * 0.8 * 0.2)


def test_the_rest_of_an_epoch_can_be_kept_as_a_smaller_batch() -> None:
    batches = training.MemoryBatches([torch.arange(10)], batch_size=4, seed=0, partial=True)
    assert batches.per_epoch == 3
    stream = iter(batches)
    for _ in range(5):
        epoch = [next(stream)[0] for _ in range(3)]
        assert [len(rows) for rows in epoch] == [4, 4, 2]
        assert sorted(torch.cat(epoch).tolist()) == list(range(10))


def test_a_single_row_is_no_batch_since_batch_norm_takes_none() -> None:
    batches = training.MemoryBatches([torch.arange(9)], batch_size=4, seed=0, partial=True)
    assert batches.per_epoch == 2
    stream = iter(batches)
    assert [len(next(stream)[0]) for _ in range(6)] == [4] * 6


def test_epochs_count_partial_batches() -> None:
    data = line_data(250)
    chosen = options(max_epochs=3, partial_batches=True)
    assert training.fit(Regression(), data, data, chosen, seed=0)["steps"] == 3 * 8
    assert training.fit(Regression(), data, data, options(max_epochs=3), seed=0)["steps"] == 3 * 7


def one_cycle(steps: int, rate: float, **settings: Any) -> tuple[list[float], list[float]]:
    """Rates and first betas of Adam at every step."""
    chosen = options(
        optimizer="adam", learning_rate_schedule="one_cycle", max_steps=steps, learning_rate=rate, **settings
    )
    optimizer = training.build_optimizer([nn.Parameter(torch.zeros(1))], chosen)
    schedule = training.schedule(optimizer, chosen)
    rates, betas = [], []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        betas.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        schedule.step()
    return rates, betas


def test_the_papers_cycle_peaks_at_step_1000_and_lowers_the_momentum_there() -> None:
    """GTEx: 6 batches of 15,000 epochs; the shares are those of the authors' schedule."""
    rates, betas = one_cycle(90_000, 1e-3, peak_step=1000)
    found = [rates[step] / 1e-3 for step in (0, 500, 999, 10_000, 45_000)]
    assert found == pytest.approx([0.04, 0.521, 1.0, 0.975, 0.509], abs=1e-3)
    assert rates[-1] / 1e-3 == pytest.approx(4e-6, rel=0.01)
    assert (betas[0], betas[999], betas[-1]) == pytest.approx((0.95, 0.85, 0.95))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_cycle_shorter_than_its_rise_still_ends(steps: int) -> None:
    rates, _ = one_cycle(steps, 1e-3, peak_step=1000)
    assert len(rates) == steps
    assert all(0 < rate <= 1e-3 for rate in rates)


def test_a_batch_is_never_larger_than_the_data() -> None:
    (batch,) = next(iter(training.MemoryBatches([torch.arange(10)], batch_size=64, seed=0)))
    assert sorted(batch.tolist()) == list(range(10))


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_device_that_is_not_there_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"'cuda' is not available.*device: auto"):
        resolve_device("cuda")


def test_auto_takes_a_device_that_is_there() -> None:
    assert torch.zeros(1, device=resolve_device("auto")).device.type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize(
    ("device", "parameters", "steps", "compiles"),
    [
        ("cuda", training.LARGE_NETWORK, training.LONG_TRAINING, True),
        ("cpu", training.LARGE_NETWORK, training.LONG_TRAINING, False),
        ("cuda", training.LARGE_NETWORK - 1, training.LONG_TRAINING, False),
        ("cuda", training.LARGE_NETWORK, training.LONG_TRAINING - 1, False),
    ],
)
def test_only_long_trainings_of_large_networks_on_a_gpu_are_compiled(
    device: str, parameters: int, steps: int, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.other = nn.Linear(2, 2), nn.Linear(2, 2)

        @property
        def to_compile(self) -> tuple[nn.Module, ...]:
            return (self.network,)

    model, asked = Model(), []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **settings: asked.append((self, settings)))
    with training.compiled(model, parameters, steps, torch.device(device)):
        assert asked == ([(model.network, {"dynamic": False})] if compiles else [])
        model.network._compiled_call_impl = "as torch sets it"
    assert (model.network._compiled_call_impl is None) == compiles
