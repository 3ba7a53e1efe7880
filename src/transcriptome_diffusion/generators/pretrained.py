"""A generator fitted with a reference cohort, whichever it is: the one place that knows what each can do with it."""

from __future__ import annotations

import logging
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.reference import match_reference
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.reference_prior import fit_with_reference
from transcriptome_diffusion.options import TrainingOptions

logger = logging.getLogger(__name__)

#: of the steps and the learning rate of training, what fine-tuning on the user's cohort has
STEPS, RATE = 0.25, 0.3


def fit(
    cls: type[Generator],
    train: ad.AnnData,
    validation: ad.AnnData,
    options: Any,
    reference: ad.AnnData | None,
    privacy: PrivacyOptions,
    rng: np.random.Generator | None = None,
) -> Generator:
    """Fit ``cls`` with a reference cohort and the privacy dial; without either, as ``cls.fit`` does.

    The class Gaussian takes its covariance from the reference, for every dial. A network with ``dial: none`` is trained
    on the reference and the cohort together, each with its own classes, on the axes of both, and then for ``STEPS`` of
    its steps on the cohort alone.

    Args:
        reference: as ``expression.reference.prepare_reference`` gives it. rng: as in ``fit_with_reference``.

    Raises:
        ValueError: if a dial other than none has no reference or a generator that does not know it; or if the
            reference does not fit.
    """
    if reference is None or not reference.n_obs:
        if privacy.dial == "none":
            return cls.fit(train, validation, options)
        raise ValueError(
            f"`privacy.dial` is {privacy.dial}, which takes axes from a public cohort: name one as "
            "`reference_cohort` in the catalog, or give `reference`."
        )
    if cls is ClassGaussian:
        return fit_with_reference(train, validation, options, reference, privacy, rng)
    if privacy.dial != "none":
        raise ValueError(
            f"{cls.name} has no `privacy.dial: {privacy.dial}`: its network would see the cohort. "
            "Take class_gaussian, or `dial: none`."
        )
    if not hasattr(options, "training"):
        raise ValueError(f"{cls.name} takes nothing from a reference cohort; class_gaussian and networks do.")
    return _pretrained(cls, train, validation, options, reference)


def _pretrained(
    cls: type[Generator], train: ad.AnnData, validation: ad.AnnData, options: Any, reference: ad.AnnData
) -> Generator:
    """Trained on the reference and the cohort, fine-tuned on the cohort; the model knows the classes of both."""
    label, *others = options.conditions
    if others:
        raise ValueError(f"a reference cohort serves one condition; `conditions` has {options.conditions}.")
    matched = match_reference(reference, train, label, other=validation, seed=options.seed)
    both = _joined(train, matched.profiles, label)
    # a marginal map would give the cohort's genes the distributions of both
    options = options.model_copy(update={"marginal_map": False})
    model = cls.fit(both, validation, options)
    model.record["privacy"] = {"dial": "none", "reference": matched.facts}
    network, coordinates = _network(model)
    if network is not None:
        # sizes that were left to the number of profiles are those of the first training
        tuned = short(type(options).model_validate(model.settings).training)
        parts = []
        for part in (train, validation):
            codes = torch.from_numpy(model.conditions.to_codes(part.obs))
            with torch.no_grad():
                u = coordinates.scaler(torch.from_numpy(dense(part)))
                if coordinates.preconditioner is not None:
                    u = coordinates.preconditioner.to_coordinates(u, codes)
                # of training profiles the network draws all coordinates anew before it takes the leading ones
                parts.append((u if part is train else u[:, : coordinates.width], codes))
        from transcriptome_diffusion import training

        own, other = parts
        record = training.fit(network, own, other, tuned, options.seed, title=f"{cls.name}, on the cohort alone")
        model.record["fine_tuning"] = {name: record[name] for name in ("steps", "best_step", "seconds", "stopped")}
        if hasattr(network, "fit_noise") and options.noise == "held_out":
            network.fit_noise(*other)
    return model


def short(options: TrainingOptions) -> TrainingOptions:
    """The settings of fine-tuning: fewer and smaller steps."""
    changes: dict[str, Any] = {"learning_rate": RATE * options.learning_rate}
    for name in ("max_steps", "max_epochs"):
        if (value := getattr(options, name)) is not None:
            changes[name] = max(round(STEPS * value), 1)
    return options.model_copy(update=changes)


def _network(model: Generator) -> tuple[Any, Any]:
    """What is trained and what gives its coordinates; nothing for a network that is useless without its critic."""
    if (denoiser := getattr(model, "denoiser", None)) is not None:
        return denoiser, denoiser
    network: Any = getattr(model, "network", None)
    return (network, network.coordinates) if hasattr(network, "fit_noise") else (None, None)


def _joined(train: ad.AnnData, reference: ad.AnnData, label: str) -> ad.AnnData:
    """One set of profiles; classes of the reference that the cohort has as well are its own there."""
    tables = []
    for part, prefix in ((train, ""), (reference, "reference ")):
        donors = part.obs.get("donor", part.obs_names.to_series()).astype(str)
        names = prefix + part.obs[label].astype(str)
        table = {label: names.to_numpy(), "donor": (prefix + donors).to_numpy()}
        tables.append(pd.DataFrame(table, index=prefix + part.obs_names.astype(str)))
    values = np.concatenate([dense(train), dense(reference)])
    return make_profiles(values, pd.concat(tables), train.var, str(train.uns["unit"]))
