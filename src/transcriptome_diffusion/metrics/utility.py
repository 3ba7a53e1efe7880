"""Reverse validation: how well a classifier that saw only synthetic profiles names the tissue of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from transcriptome_diffusion.devices import resolve_device, torch_threads
from transcriptome_diffusion.metrics.bounded import blocks
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.span import axes_in_span, products, random_basis
from transcriptome_diffusion.metrics.statistics import auc
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: more genes than this, or than ``WIDE`` times the training profiles, reach the classifiers as coordinates in the span
#: of their training profiles
MAX_INPUTS, WIDE = 1024, 1.5
#: of the validation loss, in nats, that counts as an improvement
MIN_DECREASE = 1e-3


def classification_scores(probabilities: np.ndarray, classes: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Four scores of predicted class probabilities, every class that occurs in ``expected`` counting alike in three.

    ``accuracy``; ``balanced_accuracy``, its mean over classes; ``macro_f1``, the mean over classes of F1;
    ``auroc``, the mean over classes of the area under the ROC curve of that class against the rest. A class
    that the classifier does not know is never predicted, and has an area of .5. ``auroc`` is NaN if
    ``expected`` holds one class, and so are all if the classifier knows no other. Best 1; null, for ``auroc``, .5.

    Args:
        probabilities: (n, n_classes), or any scores that rise with them. classes: names of the columns, sorted.
        expected: (n,) true class of every row.
    """
    from sklearn.metrics import precision_recall_fscore_support

    predicted, expected = classes[probabilities.argmax(axis=1)], np.asarray(expected)
    labels = np.unique(expected)
    if len(labels) == len(classes) == 1 and labels[0] == classes[0]:
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "auroc"), np.nan)
    _, recall, f1, _ = precision_recall_fscore_support(expected, predicted, labels=labels, zero_division=0)
    # scikit-learn's area needs a column for every class
    columns = {label: probabilities[:, i] for i, label in enumerate(classes)}
    areas = [
        auc(columns.get(label, np.zeros(len(expected))), expected == label)[0] for label in labels if len(labels) > 1
    ]
    return {
        "accuracy": float((predicted == expected).mean()),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "auroc": float(np.mean(areas)) if areas else np.nan,
    }


def reverse_validation(
    train: ProfileSet, validation: ProfileSet, test: ProfileSet, options: ClassifierOptions
) -> dict[str, list[float]]:
    """Train classifiers on ``train`` (synthetic), stop them on ``validation``, test them on ``test`` (both real).

    Train on synthetic, test on real: Esteban et al. (2017), arXiv:1706.02633; the paper's reverse validation.
    Best is the accuracy of the same classifier trained on as many real profiles; the null value is 1 over
    the number of classes for balanced accuracy. A class that ``train`` lacks is never predicted and costs
    its share of ``test``. Where both hold one class, the same, all are NaN. The three hold the same genes in the same
    space, whose scale comes from real training profiles: nothing is rescaled here, so that shrunken or inflated genes
    show.

    Up to ``MAX_INPUTS`` genes, and ``WIDE`` times as many genes as profiles, the classifiers see the genes. Beyond,
    they see the coordinates of a profile in the span of the training profiles (of its ``MAX_INPUTS`` leading
    principal components, if there are more), in a random orthonormal basis. That is exact for the logistic
    regression, since an L2 penalty keeps the weights in that span and does not see the basis; for the perceptron it
    leaves out only what the random start of the first layer adds outside the span. The random basis matters: in the
    basis of principal components Adam's steps enlarge the small ones, and accuracy falls by about .05.

    Train on real, and on real plus synthetic, are the same call with those profiles as ``train``.

    Returns:
        ``accuracy``, ``balanced_accuracy``, ``macro_f1`` and ``auroc`` of ``classification_scores``, each with
        ``_mlp``, one value per seed, and ``_logistic``, one value, since that fit is convex.

    Raises:
        ValueError: if shapes disagree.
    """
    classes, predicted = predict(train, validation, test, options)
    scores: dict[str, list[float]] = {}
    for classifier, runs in predicted.items():
        for probabilities in runs:
            for metric, value in classification_scores(probabilities, classes, test.labels).items():
                scores.setdefault(f"{metric}_{classifier}", []).append(value)
    return scores


@one_thread_if_small
def predict(
    train: ProfileSet,
    validation: ProfileSet,
    test: ProfileSet,
    options: ClassifierOptions,
    squares: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """The predictions behind ``reverse_validation``: sorted classes, and (n_test, n_classes) probabilities per run.

    ``mlp`` has a run per seed, ``logistic`` one. For intervals over donors and accuracies per tissue.

    Args:
        squares: squared distances of the three sets to ``train``, (n, n_train) each, where they are measured already;
            of many genes the classifiers' inputs are then found from these.

    Raises:
        ValueError: as ``reverse_validation``.
    """
    _check(train, validation, test)
    classes, codes = np.unique(train.labels, return_inverse=True)
    if len(classes) < 2:  # there is nothing to learn, and every answer is this class
        certain = np.ones((len(test.labels), len(classes)))
        return classes, {"mlp": [certain] * len(options.seeds), "logistic": [certain]}
    if squares is not None and _is_wide(train.values):
        inputs, seen, unseen = _coordinates(squares)
    else:
        project = _projection(train.values)
        inputs, seen, unseen = (project(part.values) for part in (train, validation, test))
    # validation profiles of classes that the classifier does not know cannot guide it
    known = np.isin(validation.labels, classes)
    seen, seen_codes = seen[known], np.searchsorted(classes, validation.labels[known])
    networks = train_mlps(inputs, codes, seen, seen_codes, len(classes), options, options.seeds)
    with torch.no_grad():
        by_seed = [network(torch.from_numpy(unseen)).double().softmax(dim=1).numpy() for network in networks]
    return classes, {"mlp": by_seed, "logistic": [_logistic(inputs, codes, unseen, options.logistic_c)]}


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
        layers: weights (width, n_inputs) and biases (width,) of the hidden layers, each followed by a ReLU; the first
            has the genes as its inputs.
    """

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    @one_thread_if_small
    def fit(cls, train: ProfileSet, validation: ProfileSet, options: ClassifierOptions, seed: int = 0) -> Self:
        """Train the classifier on real profiles, stopping early on ``validation``; of one class there are no features.

        Raises:
            ValueError: if shapes disagree.
        """
        _check(train, validation, train)
        classes, codes = np.unique(train.labels, return_inverse=True)
        if len(classes) < 2:
            return cls(((np.empty((0, train.values.shape[1]), dtype=np.float32), np.empty(0, dtype=np.float32)),))
        project = _projection(train.values)
        known = np.isin(validation.labels, classes)
        seen_codes = np.searchsorted(classes, validation.labels[known])
        network = train_mlp(
            project(train.values), codes, project(validation.values[known]), seen_codes, len(classes), options, seed
        )
        hidden = [part for part in list(network)[:-1] if isinstance(part, nn.Linear)]
        (weight, bias), *others = ((part.weight.detach().numpy(), part.bias.detach().numpy()) for part in hidden)
        if project.axes is not None and project.centre is not None:
            weight = weight @ project.axes.T
            bias = bias - weight @ project.centre
        return cls(((weight, bias), *others))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found = values
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
    """``train_mlps`` with one seed."""
    return train_mlps(inputs, codes, validation_inputs, validation_codes, n_classes, options, [seed])[0]


def train_mlps(
    inputs: np.ndarray,
    codes: np.ndarray,
    validation_inputs: np.ndarray,
    validation_codes: np.ndarray,
    n_classes: int,
    options: ClassifierOptions,
    seeds: Sequence[int],
) -> list[nn.Sequential]:
    """One perceptron per seed, with ReLU, dropout and class weights, in evaluation mode at its best validation epoch.

    All are trained together, as one network with stacked weights. Each has its own initial weights, batches, dropout
    and early stopping, which depend on its seed alone.

    Early stopping follows the class-weighted validation cross-entropy: training ends after ``options.patience`` epochs
    that lower it by no more than ``MIN_DECREASE``, and the weights of the lowest are kept. Without validation profiles
    all epochs are run. The caller's random state stays as it is.

    Args:
        inputs: (n, n_features) float32. codes: class of each, (n,) integers below ``n_classes``.
        validation_inputs, validation_codes: the same of validation profiles.

    Returns:
        Networks on the CPU. The last layer gives the logits, so ``network[:-1]`` gives the last hidden features.
    """
    device = resolve_device(options.device)
    x, y, x_seen, y_seen = (
        torch.from_numpy(array).to(device) for array in (inputs, codes, validation_inputs, validation_codes)
    )
    class_weights = len(y) / (n_classes * torch.bincount(y, minlength=n_classes).clamp(min=1)).float()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    widths = [x.shape[1], *options.hidden, n_classes]
    # of the layers in turn: weights (n_networks, n_inputs, width), biases (n_networks, 1, width)
    stacked = [tensor.to(device).requires_grad_() for tensor in _initial_weights(widths, generators)]
    optimiser = _Optimiser(stacked, options)
    best: dict[int, list[Tensor]] = {}
    lowest, to_beat = np.full((2, len(seeds)), np.inf)
    running, beaten_at = np.arange(len(seeds)), np.zeros(len(seeds), dtype=np.int64)
    with torch_threads(1):
        for epoch in range(options.epochs):
            orders = torch.stack([torch.randperm(len(x), generator=generators[i]) for i in running])
            for rows in orders.to(device).split(options.batch_size, dim=1):
                masks = _dropout_masks(options, rows.shape[1], [generators[i] for i in running])
                _losses(_logits(x[rows], stacked, masks.to(device)), y[rows], class_weights).sum().backward()
                optimiser.step()
            if not len(x_seen):
                continue
            with torch.no_grad():
                logits = _logits(x_seen.expand(len(running), -1, -1), stacked)
                losses = _losses(logits, y_seen.expand(len(running), -1), class_weights).cpu().double().numpy()
            for place, i in enumerate(running.tolist()):
                if losses[place] < lowest[i] or i not in best:  # the first may be NaN
                    best[i] = [part.detach()[place].clone() for part in stacked]
            lowest[running] = np.fmin(losses, lowest[running])
            improved = running[losses < to_beat[running] - MIN_DECREASE]
            to_beat[improved], beaten_at[improved] = lowest[improved], epoch
            going_on = epoch - beaten_at[running] < options.patience
            if not going_on.any():
                break
            if not going_on.all():
                optimiser.keep(torch.from_numpy(np.flatnonzero(going_on)).to(device))
                running = running[going_on]
    if not len(x_seen):
        best = {i: [part.detach()[i] for part in stacked] for i in range(len(seeds))}
    return [_network(widths, options.dropout, best[i]) for i in range(len(seeds))]


def _initial_weights(widths: Sequence[int], generators: Sequence[torch.Generator]) -> list[Tensor]:
    """Those of ``nn.Linear``: weights and biases uniform within 1 over the square root of the number of inputs."""
    found = []
    for n_inputs, width in pairwise(widths):
        for rows in (n_inputs, 1):
            values = [torch.empty(rows, width).uniform_(-1, 1, generator=generator) for generator in generators]
            found.append(torch.stack(values) / n_inputs**0.5)
    return found


def _dropout_masks(options: ClassifierOptions, n: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Factors of all hidden units side by side, (n_networks, n, n_units): 0, or 1 over the share that is kept."""
    masks = torch.empty(len(generators), n, sum(options.hidden))
    for mask, generator in zip(masks, generators, strict=True):
        torch.rand(mask.shape, generator=generator, out=mask)
    return masks.ge_(options.dropout).div_(1 - options.dropout)


def _logits(x: Tensor, stacked: Sequence[Tensor], masks: Tensor | None = None) -> Tensor:
    """Of x (n_networks, n, n_features) by the network of the same place, (n_networks, n, n_classes)."""
    *hidden, (weight, bias) = zip(stacked[::2], stacked[1::2], strict=True)
    factors = masks.split([part.shape[2] for _, part in hidden], dim=2) if masks is not None else [None] * len(hidden)
    for (layer_weight, layer_bias), factor in zip(hidden, factors, strict=True):
        x = torch.baddbmm(layer_bias, x, layer_weight).relu()
        x = x if factor is None else x * factor
    return torch.baddbmm(bias, x, weight)


def _losses(logits: Tensor, codes: Tensor, class_weights: Tensor) -> Tensor:
    """Class-weighted mean cross-entropy of each network, (n_networks,), for codes (n_networks, n)."""
    each = nn.functional.cross_entropy(logits.flatten(0, 1), codes.flatten(), weight=class_weights, reduction="none")
    return each.view(codes.shape).sum(dim=1) / class_weights[codes].sum(dim=1)


class _Optimiser:
    """AdamW, or SGD without momentum, on the weights of all networks.

    By PyTorch's functions, as its classes load the compiler, which takes a second of every process.
    """

    def __init__(self, stacked: Sequence[Tensor], options: ClassifierOptions) -> None:
        self.stacked, self.options = stacked, options
        self.means, self.squares = ([torch.zeros_like(part) for part in stacked] for _ in range(2))
        self.steps = [torch.zeros((), device=part.device) for part in stacked]

    @torch.no_grad()
    def step(self) -> None:
        """One step down the gradients, which are then dropped."""
        given = list(self.stacked), [part.grad for part in self.stacked if part.grad is not None]
        rate, decay = self.options.learning_rate, self.options.weight_decay
        rates: dict[str, Any] = {"lr": rate, "weight_decay": decay, "maximize": False, "fused": True}
        if self.options.optimizer == "sgd":
            sgd(*given, [None] * len(self.stacked), momentum=0.0, dampening=0.0, nesterov=False, **rates)
        else:
            rates |= {"amsgrad": False, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
            adamw(*given, self.means, self.squares, [], self.steps, **rates)
        for part in self.stacked:
            part.grad = None

    def keep(self, places: Tensor) -> None:
        """Drop the other networks, and what is known of them."""
        for part in self.stacked:
            part.data = part.data[places]
        self.means, self.squares = ([part[places] for part in kind] for kind in (self.means, self.squares))


def _network(widths: Sequence[int], dropout: float, layers: Sequence[Tensor]) -> nn.Sequential:
    """One network from its weights (n_inputs, width) and biases (1, width), layer by layer."""
    parts: list[nn.Module] = []
    with torch.device("meta"):  # without initial weights of its own
        for shape in pairwise(widths):
            parts += [nn.Linear(*shape), nn.ReLU(), nn.Dropout(dropout)]
        network = nn.Sequential(*parts[:-2])
    tensors = [part for weight, bias in zip(layers[::2], layers[1::2], strict=True) for part in (weight.T, bias[0])]
    values = (tensor.cpu().contiguous() for tensor in tensors)
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)), assign=True)
    return network.eval()


def _is_wide(train: np.ndarray) -> bool:
    return train.shape[1] > min(MAX_INPUTS, WIDE * len(train))


def _projection(train: np.ndarray) -> Projection:
    if not _is_wide(train):
        return Projection()
    centre = train.mean(axis=0, dtype=np.float64).astype(train.dtype)
    centred = train - centre
    variances, vectors = axes_in_span(centred @ centred.T, MAX_INPUTS)
    if not len(variances):  # all profiles are the same
        return Projection()
    weights = (vectors / np.sqrt(variances)) @ random_basis(len(variances))
    return Projection(centre, centred.T @ weights.astype(train.dtype))


def _coordinates(squares: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of training, validation and test profiles what ``_projection`` gives, from their distances to the first."""
    gram = products(squares[0], squares[0])
    variances, vectors = axes_in_span(gram, MAX_INPUTS)
    if not len(variances):
        return [np.zeros((len(part), 1), dtype=np.float32) for part in squares]
    basis = random_basis(len(variances))
    weights = ((vectors / np.sqrt(variances)) @ basis).astype(gram.dtype)
    others = [products(part, squares[0]) @ weights for part in squares[1:]]
    parts = [(vectors * np.sqrt(variances)) @ basis, *others]
    return [np.ascontiguousarray(part, dtype=np.float32) for part in parts]


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
