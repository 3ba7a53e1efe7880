"""What the release of synthetic profiles would give away of the training donors, before they are released."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import replaced_when_whole
from transcriptome_diffusion.experiments.learning_curves import axes_of, profile_set
from transcriptome_diffusion.expression.covariance import ledoit_wolf, within_class_residuals
from transcriptome_diffusion.expression.profiles import dense, donors_of, require_same_genes
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.white_box import profile_losses
from transcriptome_diffusion.metrics.membership import (
    Estimate,
    attack,
    gaussian_ratio,
    kernel_ratio,
    known_axes_ratio,
    loss_attack,
)
from transcriptome_diffusion.metrics.membership import auc as area
from transcriptome_diffusion.metrics.neighbours import nearest_distances
from transcriptome_diffusion.metrics.profile_set import ProfileSet

#: how many profiles are released; None: ``ALL`` for every training profile
RELEASED = (60, 150, 300, 600, None)
ALL = 10
#: records that are listed as most at risk
RECORDS = 10


class PrivacyReport(NamedTuple):
    """What attacks find in profiles that a model would release.

    Attributes:
        attacks: a row per number of released profiles and attack: ``released``, ``attack``, ``auc``, ``auc_low``,
            ``auc_high``, ``tpr_10`` (true-positive rate at 10 % false positives), ``tpr_1``, ``note``. ``released`` is
            missing for attacks on the model itself.
        by_class: a row per class at the largest number: ``class``, ``profiles`` in training, ``auc`` of the strongest
            attack and ``note`` where there are too few donors for a number.
        at_risk: the records with the largest leverage: ``record``, the row of the training profiles counted from 1,
            which is no name; ``leverage``; ``recognised``, the share of held-out profiles of all classes that the
            strongest attack scores below it.
        sentence: for the model card.
    """

    attacks: pd.DataFrame
    by_class: pd.DataFrame
    at_risk: pd.DataFrame
    sentence: str

    def write(self, folder: str | Path) -> Path:
        """Write ``attacks.csv``, ``by_class.csv``, ``at_risk.csv`` and ``sentence.md`` into ``folder``."""
        folder = Path(folder)
        for name in ("attacks", "by_class", "at_risk"):
            with replaced_when_whole(folder / f"{name}.csv") as staging:
                getattr(self, name).to_csv(staging, index=False)
        with replaced_when_whole(folder / "sentence.md") as staging:
            staging.write_text(self.sentence + "\n", encoding="utf-8")
        return folder


def privacy_report(
    model: Generator,
    train: ad.AnnData,
    validation: ad.AnnData,
    test: ad.AnnData,
    *,
    reference: ad.AnnData | None = None,
    released: tuple[int | None, ...] = RELEASED,
    seed: int = 0,
) -> PrivacyReport:
    """Attack what a model would release, as often as its readers would: by how many profiles they get.

    Every attack has held-out donors as its null, so that an AUC of .5 says that it finds nothing. The report reads the
    training donors without noise: it is for who releases, and is no part of what is released.

    Args:
        model: trained on ``train``. train, validation, test: profiles of different donors with the model's genes, in
            its unit. An attacker is given the validation profiles.
        reference: the public cohort behind the model, as ``expression.reference.prepare_reference`` gives it; the
            attacker then knows it as well.
        released: numbers of profiles, in the proportions of training; None: ``ALL`` for every training profile.

    Raises:
        ValueError: if genes differ.
    """
    label = model.conditions.names[0]
    for part in (train, validation, test):
        require_same_genes(part, model.genes.index, "the model")
    scaler = GeneScaler.fit(dense(train))
    members, others, held_out = (profile_set(part, scaler, label) for part in (train, validation, test))
    axes = None if reference is None or not reference.n_obs else axes_of(reference, label)
    numbers = [ALL * train.n_obs if number is None else number for number in released]
    rows, strongest, best = [], None, -np.inf
    for place, number in enumerate(numbers):
        drawn = model.sample(_proportional(train, model, number), seed=seed + place)
        synthetic = ProfileSet(scaler(dense(drawn)), drawn.obs[label].astype(str).to_numpy())
        for name, (ours, theirs) in _scores(synthetic, members, held_out, others, axes).items():
            found = attack(name, ours, members, theirs, held_out, seed)
            auc = found[f"{name}_auc"]
            rows.append({"released": number, "attack": name, **_cells(name, found)})
            if number == max(numbers) and auc.value > best:
                strongest, best = (name, ours, theirs, auc), auc.value
    on_model = white_box(model, train, test, label, seed)
    rows += [{"released": None, "attack": name, **_cells(name, found)} for name, found in on_model.items()]
    attacks = pd.DataFrame(rows).astype({"released": "Int64"})
    if strongest is None:
        empty = pd.DataFrame()
        return PrivacyReport(attacks, empty, empty, f"No attack could be made: {attacks['note'].iloc[0]}.")
    name, ours, theirs, auc = strongest
    by_class = []
    for kind in np.unique(members.labels):
        own, other = members.labels == kind, held_out.labels == kind
        alone = area(ours[own], members.take(own), theirs[other], held_out.take(other))
        by_class.append({"class": kind, "profiles": int(own.sum()), "auc": alone.value, "note": alone.note})
    centred = np.empty(len(ours))
    for kind in np.unique(members.labels):
        own, other = members.labels == kind, held_out.labels == kind
        level = theirs[other] if other.any() else ours[own]
        centred[own] = [(level < score).mean() for score in ours[own]]
    at_risk = pd.DataFrame(
        {"record": np.arange(1, len(ours) + 1), "leverage": leverage(members), "recognised": centred}
    ).nlargest(RECORDS, "leverage")
    sentence = _sentence(model, name, auc, max(numbers), len(np.unique(others.donors)), on_model)
    return PrivacyReport(attacks, pd.DataFrame(by_class), at_risk.reset_index(drop=True), sentence)


def white_box(
    model: Generator, train: ad.AnnData, test: ad.AnnData, label: str, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Attacks by somebody who has the model itself: on the losses of profiles, with held-out donors as the null.

    Args:
        train: what the model was trained on. test: profiles of other donors. label: the classes of both.

    Returns:
        By attack what ``membership.attack`` returns; nothing for a generator that has no loss of single profiles.
    """
    known = test[test.obs[label].astype(str).isin(train.obs[label].astype(str)).to_numpy()]
    losses = [profile_losses(model, part, seed) for part in (train, known)]
    found = {}
    for name in losses[0]:
        members, others = (
            ProfileSet(own[name][0], part.obs[label].astype(str).to_numpy(), donors_of(part))
            for own, part in zip(losses, (train, known), strict=True)
        )
        table, _ = loss_attack(lambda values: values, members, others, losses[0][name][1], seed, name)
        found[name] = {str(metric): Estimate(*cells) for metric, *cells in table.itertuples(index=False)}
    return found


def _cells(name: str, found: dict[str, Estimate]) -> dict[str, float | str]:
    """The columns of one attack, from its estimates by metric."""
    auc = found[f"{name}_auc"]
    rates = {rate: found[f"{name}_{rate}"].value for rate in ("tpr_10", "tpr_1")}
    return {"auc": auc.value, "auc_low": auc.low, "auc_high": auc.high, **rates, "note": auc.note}


def leverage(records: ProfileSet) -> np.ndarray:
    """How much each profile (n, n_genes) pulls the within-class covariance towards itself, (n,), in [0, 1).

    The diagonal of K (K + n s m I)^-1 for the products K of residuals, with Ledoit and Wolf's shrinkage s and mean
    variance m: the leverage of a ridge regression with their penalty.
    """
    residuals = within_class_residuals(records.values, records.labels)
    shrinkage, variance = ledoit_wolf(residuals)
    penalty = max(len(residuals) * shrinkage * variance, 1e-9)
    values, vectors = np.linalg.eigh(residuals @ residuals.T)
    return np.square(vectors) @ (values.clip(min=0) / (values.clip(min=0) + penalty))


def _scores(
    synthetic: ProfileSet, members: ProfileSet, held_out: ProfileSet, others: ProfileSet, axes: np.ndarray | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By attack, scores of members and of held-out profiles."""
    given = (synthetic.values, synthetic.labels, others)
    attacks: dict[str, Any] = {
        "gan_leaks": lambda values, _: -nearest_distances(values, synthetic.values),
        "domias": kernel_ratio(*given),
        "domias_gaussian": gaussian_ratio(*given),
    }
    if axes is not None:
        attacks["known_axes"] = known_axes_ratio(*given, axes)
    return {
        name: (score(members.values, members.labels), score(held_out.values, held_out.labels))
        for name, score in attacks.items()
    }


def _proportional(train: ad.AnnData, model: Generator, number: int) -> pd.DataFrame:
    """Labels of ``number`` profiles in the proportions of the training profiles."""
    names = list(model.conditions.names)
    rows = np.floor(np.arange(number) * train.n_obs / number).astype(int)
    ordered = train.obs[names].astype(str).sort_values(names).iloc[rows]
    return ordered.reset_index(drop=True)


def _sentence(
    model: Generator,
    name: str,
    auc: Estimate,
    released: int,
    donors: int,
    on_model: dict[str, dict[str, Estimate]],
) -> str:
    text = (
        f"Of {released} released profiles, an attacker who also has profiles of {donors} other donors tells training "
        f"donors from others with an AUC of {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f}; .5 is guessing) by the "
        f"strongest attack tried, {name}. Other attacks may find more."
    )
    if on_model:
        best, by = max((found[f"{name}_auc"], name) for name, found in on_model.items())
        text += f" Who has the model itself reaches {best.value:.2f} ({best.low:.2f} to {best.high:.2f}) by {by}."
    privacy = model.record.get("privacy", {})
    if privacy.get("dial") == "dp":
        text += (
            f" The model is ({privacy['epsilon']:g}, {privacy['delta']:g})-differentially private for "
            f"{privacy['protected']}. Taken for public: {privacy['public']}."
        )
    elif privacy.get("dial") == "reference_axes":
        text += (
            " Of the cohort it holds class means, scales of genes and class factors alone; everything else is of a "
            "public cohort. No bound is proved."
        )
    return text
