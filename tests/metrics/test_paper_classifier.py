"""The paper's tissue classifiers: their size, their class weights, when they stop, and what they keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from transcriptome_diffusion.metrics import paper_classifier
from transcriptome_diffusion.metrics.options import PaperClassifierOptions
from transcriptome_diffusion.metrics.paper_classifier import build_classifier, features, train_classifier


@pytest.mark.parametrize(
    ("genes", "hidden", "classes", "parameters"),
    [
        (974, [1024, 1024], 26, 2_074_650),
        (978, [256, 16], 24, 255_144),
        (18_691, [2048, 8192], 26, 55_279_642),
        (20_531, [1024, 1024], 24, 22_098_968),
    ],
)
def test_the_classifiers_have_the_size_of_the_papers(
    genes: int, hidden: list[int], classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        network = build_classifier(genes, hidden, classes, 0.5)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert [type(part) for part in network] == [nn.Linear, nn.ReLU, nn.Dropout] * 2 + [nn.Linear]


def separated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    return (rng.normal(size=(n, 5)) + 4 * np.eye(3, 5)[codes]).astype(np.float32), codes


def options(**settings: Any) -> PaperClassifierOptions:
    return PaperClassifierOptions.model_validate({"hidden": [16, 8], "learning_rate": 1e-2, "epochs": 30, **settings})


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "sgd", "momentum": 0.5, "learning_rate": 0.05}])
def test_it_learns_and_leaves_the_random_state_alone(optimizer: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    networks = [train_classifier(separated(300, 0), separated(60, 1), 3, options(**optimizer), 7) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    x, y = separated(200, 2)
    assert paper_classifier.accuracy(networks[0], torch.from_numpy(x), torch.from_numpy(y)) > 0.95


def test_class_weights_count_training_and_validation_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.CrossEntropyLoss] = []

    class Watched(nn.CrossEntropyLoss):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            made.append(self)

    monkeypatch.setattr(paper_classifier.nn, "CrossEntropyLoss", Watched)
    x, y = separated(12, 0)
    seen = separated(9, 1)[0][:4], np.array([0, 0, 0, 1])
    train_classifier((x, y), seen, 3, options(epochs=1), 0)
    assert made[0].weight is not None
    torch.testing.assert_close(made[0].weight, torch.tensor([16 / 7, 16 / 5, 16 / 4]))
    assert made[0].label_smoothing == 0.1


def test_it_stops_after_epochs_below_the_best_in_a_row_and_keeps_the_last_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached = [0.5, 0.9, 0.8, 0.9, 0.7, 0.7, 0.7, 0.95]
    asked: list[list[torch.Tensor]] = []

    def accuracy(network: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> float:
        asked.append([p.detach().clone() for p in network.parameters()])
        return reached[len(asked) - 1]

    monkeypatch.setattr(paper_classifier, "accuracy", accuracy)
    network = train_classifier(separated(60, 0), separated(30, 1), 3, options(patience=3), 0)
    assert len(asked) == 7
    for last, kept in zip(asked[-1], network.parameters(), strict=True):
        assert torch.equal(last, kept)


def test_features_are_those_before_the_last_relu() -> None:
    torch.manual_seed(0)
    network = build_classifier(5, [6, 4], 3, 0.5).eval()
    x, _ = separated(50, 0)
    found = features(network, x)
    assert found.shape == (50, 4)
    assert found.min() < 0
    logits = network(torch.from_numpy(x))
    torch.testing.assert_close(network[-1](torch.from_numpy(found).relu()), logits)
