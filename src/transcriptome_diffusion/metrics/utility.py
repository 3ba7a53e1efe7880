"""Reverse validation: how well a classifier that saw only synthetic profiles names the tissue of real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.stats
import torch
from torch import nn

from transcriptome_diffusion.devices import resolve_device, torch_threads
from transcriptome_diffusion.parameters import ClassifierOptions

#: more genes than this reach the classifiers as coordinates in the span of their training profiles
MAX_INPUTS = 1024


class Labelled(NamedTuple):
    """Profiles (n, n_genes) in a gene-wise standardised space, and one class per row, (n,)."""

    values: np.ndarray
    labels: np.ndarray


def accuracies(predicted: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """Accuracy, and its mean over the classes that occur in ``expected`` (balanced accuracy)."""
    right = np.asarray(predicted) == np.asarray(expected)
    return float(right.mean()), float(np.mean([right[expected == c].mean() for c in np.unique(expected)]))


def reverse_validation(
    train: Labelled, validation: Labelled, test: Labelled, options: ClassifierOptions
) -> dict[str, list[float]]:
    """Train classifiers on ``train`` (synthetic), stop them on ``validation``, test them on ``test`` (both real).

    Train on synthetic, test on real: Esteban et al. (2017), arXiv:1706.02633; the paper's reverse validation.
    Best is the accuracy of the same classifier trained on as many real profiles; the null value is 1 over
    the number of classes for balanced accuracy. A class that ``train`` lacks is never predicted and costs
    its share of ``test``. The three hold the same genes in the same space, whose scale comes from real
    training profiles: nothing is rescaled here, so that shrunken or inflated genes show.

    Up to ``MAX_INPUTS`` genes the classifiers see the genes. Beyond, they see the coordinates of a profile
    in the span of the training profiles (of its ``MAX_INPUTS`` leading principal components, if there are
    more), in a random orthonormal basis. That is exact for the logistic regression, since an L2 penalty
    keeps the weights in that span and does not see the basis; for the perceptron it leaves out only what
    the random start of the first layer adds outside the span. The random basis matters: in the basis of
    principal components Adam's steps blow up the small ones, and accuracy falls by some .05.

    Returns:
        ``accuracy_mlp`` and ``balanced_accuracy_mlp``, one value per seed; ``accuracy_logistic`` and
        ``balanced_accuracy_logistic``, one value, since that fit is convex.

    Raises:
        ValueError: if shapes disagree or ``train`` has fewer than two classes.
    """
    _check(train, validation, test)
    classes, codes = np.unique(train.labels, return_inverse=True)
    project = _projection(train.values)
    inputs, seen, unseen = (project(part.values) for part in (train, validation, test))

    scores: dict[str, list[float]] = {}

    def add(classifier: str, predicted: np.ndarray) -> None:
        plain, balanced = accuracies(classes[predicted], test.labels)
        scores.setdefault(f"accuracy_{classifier}", []).append(plain)
        scores.setdefault(f"balanced_accuracy_{classifier}", []).append(balanced)

    # validation profiles of classes that the classifier does not know cannot guide it
    known = np.isin(validation.labels, classes)
    seen, seen_codes = seen[known], np.searchsorted(classes, validation.labels[known])
    for seed in options.seeds:
        network = train_mlp(inputs, codes, seen, seen_codes, len(classes), options, seed)
        with torch.no_grad():
            add("mlp", network(torch.from_numpy(unseen)).argmax(dim=1).numpy())
    add("logistic", _logistic(inputs, codes, unseen, options.logistic_c))
    return scores


def train_mlp(
    inputs: np.ndarray,
    codes: np.ndarray,
    validation_inputs: np.ndarray,
    validation_codes: np.ndarray,
    n_classes: int,
    options: ClassifierOptions,
    seed: int,
) -> nn.Sequential:
    """A perceptron with ReLU, dropout and class weights, in evaluation mode at its best validation epoch.

    Inputs are (n, n_features) float32, codes (n,) integers below ``n_classes``. Early stopping on the
    class-weighted validation cross-entropy; without validation profiles all epochs are run. The caller's
    random state is left alone. Wherever it was trained, the network comes back to the CPU. Its last layer is
    the readout, so that ``network[:-1]`` gives the last hidden features.
    """
    device = resolve_device(options.device)
    x, y, x_seen, y_seen = (
        torch.from_numpy(array).to(device) for array in (inputs, codes, validation_inputs, validation_codes)
    )
    counts = torch.bincount(y, minlength=n_classes)
    loss = nn.CrossEntropyLoss(weight=len(y) / (n_classes * counts.clamp(min=1)))
    best, best_loss, best_epoch = None, np.inf, 0
    make = torch.optim.SGD if options.optimizer == "sgd" else torch.optim.AdamW
    gpus = range(torch.cuda.device_count()) if device.type == "cuda" else []
    with torch_threads(1), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        network = _mlp(x.shape[1], options.hidden, n_classes, options.dropout).to(device)
        optimiser = make(
            network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, foreach=True
        )
        for epoch in range(options.epochs):
            network.train()
            for batch in torch.randperm(len(x)).to(device).split(options.batch_size):
                optimiser.zero_grad()
                loss(network(x[batch]), y[batch]).backward()
                optimiser.step()
            if not len(x_seen):
                continue
            network.eval()
            with torch.no_grad():
                now = float(loss(network(x_seen), y_seen))
            if now < best_loss:
                best_loss, best_epoch = now, epoch
                best = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch >= options.patience:
                break
    if best is not None:
        network.load_state_dict(best)
    return network.cpu().eval()


def _mlp(n_features: int, hidden: Sequence[int], n_classes: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_features, width), nn.ReLU(), nn.Dropout(dropout)]
        n_features = width
    return nn.Sequential(*layers, nn.Linear(n_features, n_classes))


def _projection(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Profiles to inputs (n, n_features) float32; ``reverse_validation`` says which and why."""
    if train.shape[1] <= MAX_INPUTS:
        return lambda values: np.ascontiguousarray(values, dtype=np.float32)
    centre = train.mean(axis=0, dtype=np.float64)
    centred = train - centre
    n = len(train)
    variances, vectors = scipy.linalg.eigh(
        centred @ centred.T, subset_by_index=(max(0, n - MAX_INPUTS), n - 1), check_finite=False
    )
    kept = variances > variances[-1] * n * np.finfo(np.float64).eps
    axes = centred.T @ (vectors[:, kept] / np.sqrt(variances[kept]))
    axes = axes @ scipy.stats.ortho_group.rvs(axes.shape[1], random_state=0) if axes.shape[1] > 1 else axes
    return lambda values: ((values - centre) @ axes).astype(np.float32)


def _logistic(inputs: np.ndarray, codes: np.ndarray, unseen: np.ndarray, c: float) -> np.ndarray:
    """Predicted codes of a multinomial logistic regression with an L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=2000).fit(inputs, codes).predict(unseen)


def _check(train: Labelled, validation: Labelled, test: Labelled) -> None:
    for name, part in (("train", train), ("validation", validation), ("test", test)):
        if part.values.ndim != 2 or len(part.values) != len(part.labels):
            raise ValueError(
                f"{name}: expected one label per profile, found profiles {np.shape(part.values)} and "
                f"{len(part.labels)} labels."
            )
        if part.values.shape[1] != train.values.shape[1]:
            raise ValueError(
                f"{name} has {part.values.shape[1]} genes, the classifier's profiles {train.values.shape[1]}."
            )
        if not np.isfinite(part.values).all():
            raise ValueError(f"{name} holds NaN or infinite values; classifiers need finite profiles.")
    if len(found := np.unique(train.labels)) < 2:
        raise ValueError(f"a classifier needs two classes or more, the synthetic profiles have {list(found)}.")
