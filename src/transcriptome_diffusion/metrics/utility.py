"""Reverse validation: how well a classifier that saw only synthetic profiles names the tissue of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.linalg
import scipy.stats
import torch
from torch import nn

from transcriptome_diffusion.devices import resolve_device, torch_threads
from transcriptome_diffusion.expression.covariance import leading_axes
from transcriptome_diffusion.metrics.bounded import blocks
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.two_sample import auc

#: more genes than this reach the classifiers as coordinates in the span of their training profiles
MAX_INPUTS = 1024


def classification_scores(probabilities: np.ndarray, classes: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Four scores of predicted class probabilities, every class that occurs in ``expected`` counting alike in three.

    ``accuracy``; ``balanced_accuracy``, its mean over classes; ``macro_f1``, the mean over classes of F1;
    ``auroc``, the mean over classes of the area under the ROC curve of that class against the rest. A class
    that the classifier does not know is never predicted, and has an area of .5. ``auroc`` is NaN if
    ``expected`` holds one class. Best 1; null, for ``auroc``, .5.

    Args:
        probabilities: (n, n_classes), or any scores that rise with them. classes: names of the columns, sorted.
        expected: (n,) true class of every row.
    """
    predicted, expected = classes[probabilities.argmax(axis=1)], np.asarray(expected)
    right = predicted == expected
    recalls, f1, areas = [], [], []
    for label in np.unique(expected):
        ours = expected == label
        recalls.append(right[ours].mean())
        f1.append(2 * right[ours].sum() / (ours.sum() + (predicted == label).sum()))
        known = np.flatnonzero(classes == label)
        scores = probabilities[:, known[0]] if len(known) else np.zeros(len(expected))
        areas.append(auc(scores, ours)[0] if not ours.all() else np.nan)
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "macro_f1": float(np.mean(f1)),
        "auroc": float(np.mean(areas)),
    }


def reverse_validation(
    train: ProfileSet, validation: ProfileSet, test: ProfileSet, options: ClassifierOptions
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

    Train on real, and on real plus synthetic, are the same call with those profiles as ``train``.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``macro_f1`` and ``auroc`` of ``classification_scores``, each with
        ``_mlp``, one value per seed, and ``_logistic``, one value, since that fit is convex.

    Raises:
        ValueError: if shapes disagree or ``train`` has fewer than two classes.
    """
    classes, predicted = predict(train, validation, test, options)
    scores: dict[str, list[float]] = {}
    for classifier, runs in predicted.items():
        for probabilities in runs:
            for metric, value in classification_scores(probabilities, classes, test.labels).items():
                scores.setdefault(f"{metric}_{classifier}", []).append(value)
    return scores


def predict(
    train: ProfileSet, validation: ProfileSet, test: ProfileSet, options: ClassifierOptions
) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """The predictions behind ``reverse_validation``: sorted classes, and (n_test, n_classes) probabilities per run.

    ``mlp`` has a run per seed, ``logistic`` one. For intervals over donors and accuracies per tissue.

    Raises:
        ValueError: as ``reverse_validation``.
    """
    _check(train, validation, test)
    classes, codes = np.unique(train.labels, return_inverse=True)
    project = _projection(train.values)
    inputs, seen, unseen = (project(part.values) for part in (train, validation, test))
    # validation profiles of classes that the classifier does not know cannot guide it
    known = np.isin(validation.labels, classes)
    seen, seen_codes = seen[known], np.searchsorted(classes, validation.labels[known])
    found = []
    for seed in options.seeds:
        network = train_mlp(inputs, codes, seen, seen_codes, len(classes), options, seed)
        with torch.no_grad():
            found.append(network(torch.from_numpy(unseen)).double().softmax(dim=1).numpy())
    return classes, {"mlp": found, "logistic": [_logistic(inputs, codes, unseen, options.logistic_c)]}


@dataclass(frozen=True, eq=False)
class Projection:
    """How profiles reach the classifiers: as they are, or along axes; ``reverse_validation`` says which and why.

    Attributes:
        centre, axes: (n_genes,) and (n_genes, n_features); None for profiles as they are.
    """

    centre: np.ndarray | None = None
    axes: np.ndarray | None = None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Profiles (n, n_genes) to inputs (n, n_features) float32."""
        if self.axes is None:
            return np.ascontiguousarray(values, dtype=np.float32)
        parts = [((values[rows] - self.centre) @ self.axes).astype(np.float32) for rows in blocks(len(values))]
        return np.concatenate(parts) if parts else np.empty((0, self.axes.shape[1]), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class TissueFeatures:
    """Profiles (n, n_genes) to the last hidden layer of a classifier of real tissues, (n, width) float32.

    The space of the paper's Fréchet distance: ``frechet(features(real), features(synthetic))``.

    Attributes:
        projection: of profiles to the classifier's inputs.
        layers: weights (width, n_inputs) and biases (width,) of the hidden layers, each followed by a ReLU.
    """

    projection: Projection
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def fit(cls, train: ProfileSet, validation: ProfileSet, options: ClassifierOptions, seed: int = 0) -> Self:
        """Train the classifier on real profiles, stopping early on ``validation``.

        Raises:
            ValueError: if shapes disagree or ``train`` has fewer than two classes.
        """
        _check(train, validation, train)
        classes, codes = np.unique(train.labels, return_inverse=True)
        project = _projection(train.values)
        known = np.isin(validation.labels, classes)
        seen_codes = np.searchsorted(classes, validation.labels[known])
        network = train_mlp(
            project(train.values), codes, project(validation.values[known]), seen_codes, len(classes), options, seed
        )
        hidden = [part for part in list(network)[:-1] if isinstance(part, nn.Linear)]
        return cls(project, tuple((p.weight.detach().numpy(), p.bias.detach().numpy()) for p in hidden))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found = self.projection(values)
        for weight, bias in self.layers:
            found = np.maximum(found @ weight.T + bias, 0)
        return found


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


def _projection(train: np.ndarray) -> Projection:
    if train.shape[1] <= MAX_INPUTS:
        return Projection()
    n, centre = len(train), train.mean(axis=0, dtype=np.float64)
    if n > 2 * MAX_INPUTS:
        _, axes = leading_axes(train - centre.astype(train.dtype), MAX_INPUTS, iterations=1)
        axes = axes @ _random_basis(axes.shape[1]).astype(axes.dtype)
    else:
        centred = train - centre
        variances, vectors = scipy.linalg.eigh(
            centred @ centred.T, subset_by_index=(max(0, n - MAX_INPUTS), n - 1), check_finite=False
        )
        kept = variances > variances[-1] * n * np.finfo(np.float64).eps
        axes = centred.T @ ((vectors[:, kept] / np.sqrt(variances[kept])) @ _random_basis(int(kept.sum())))
    return Projection(centre.astype(train.dtype), axes.astype(train.dtype))


def _random_basis(size: int) -> np.ndarray:
    return scipy.stats.ortho_group.rvs(size, random_state=0) if size > 1 else np.ones((size, size))


def _logistic(inputs: np.ndarray, codes: np.ndarray, unseen: np.ndarray, c: float) -> np.ndarray:
    """Predicted probabilities of a multinomial logistic regression with an L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=2000).fit(inputs, codes).predict_proba(unseen)


def _check(train: ProfileSet, validation: ProfileSet, test: ProfileSet) -> None:
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
