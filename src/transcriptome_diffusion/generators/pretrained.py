"""A generator fitted with a reference cohort, whichever it is: the one place that knows what each can do with it."""

from __future__ import annotations

import logging
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from transcriptome_diffusion.expression.profiles import dense, donors_of, make_profiles
from transcriptome_diffusion.expression.reference import Within, match_reference
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.differential_privacy import statement
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.reference_prior import fit_and_match, fit_with_reference, standard_residuals
from transcriptome_diffusion.generators.runs import fingerprint
from transcriptome_diffusion.options import TrainingOptions

logger = logging.getLogger(__name__)

#: of the steps and the learning rate of training, what fine-tuning on the user's cohort has
STEPS, RATE = 0.25, 0.3
#: share of the reference's donors that stop the training of a network on the others
ASIDE = 0.15
#: networks of references that are kept in memory, for other cohorts and budgets
KEPT = 4
_RECENT: dict[str, Generator] = {}
#: ends of the names of what a network's state says of genes and classes
ENDS = (
    "scaler.centre",
    "scaler.width",
    "preconditioner.effects",
    "preconditioner.log_scale_effects",
    "gene_range",
)


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
    its steps on the cohort alone. With another dial it is trained on the reference alone, and takes class means, scales
    and class factors from the class Gaussian with that dial.

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
    if not hasattr(options, "training"):
        raise ValueError(f"{cls.name} takes nothing from a reference cohort; class_gaussian and networks do.")
    if len(options.conditions) > 1:
        raise ValueError(f"a reference cohort serves one condition; `conditions` has {options.conditions}.")
    if privacy.dial == "none":
        return _pretrained(cls, train, validation, options, reference)
    return _transferred(cls, train, validation, options, reference, privacy, rng or np.random.default_rng())


# ------------------------------------------------------------------------- a network of the reference alone
def _transferred(
    cls: type[Generator],
    train: ad.AnnData,
    validation: ad.AnnData,
    options: Any,
    reference: ad.AnnData,
    privacy: PrivacyOptions,
    rng: np.random.Generator,
) -> Generator:
    """A network of what varies within classes of the reference, around the class Gaussian's means with this dial.

    Scales and class factors are the Gaussian's as well. With ``dp`` and a share for it, DP-SGD fine-tunes the network.
    """
    of_paper = "paper" in (getattr(options, "architecture", ""), getattr(getattr(options, "network", None), "kind", ""))
    if not options.preconditioned or options.scaling != "standard" or of_paper:
        raise ValueError(
            f"{cls.name} with `privacy.dial: {privacy.dial}` takes class means apart from what varies around them: set "
            "`prediction: residual` of a denoiser or `space: gaussian` of the others, and `scaling: standard`; and not "
            "the paper's `network.kind` or `architecture`, whose layers grow with the number of classes."
        )
    sgd = privacy.dial == "dp" and privacy.dp_sgd.share > 0
    if sgd and hasattr(options, "critic"):
        raise ValueError(f"{cls.name} is trained against a critic, which DP-SGD does not know; set `dp_sgd.share: 0`.")
    shared = ClassGaussianOptions(
        conditions=options.conditions, seed=options.seed, lower_bound=options.lower_bound, marginal_map=False
    )
    gaussian, public = fit_and_match(train, validation, shared, reference, privacy, rng, sgd)
    if public.n_obs == reference.n_obs and reference.var_names.equals(train.var_names):
        public = reference  # the same residuals but for rounding, so that every cohort has the same network
    label = options.conditions[0]
    cohort = Within.of(dense(public), public.obs[label].astype(str).to_numpy())
    residuals = make_profiles(
        standard_residuals(cohort).astype(np.float32),
        pd.DataFrame({label: cohort.names[cohort.codes], "donor": donors_of(public)}, index=public.obs_names),
        train.var,
        str(train.uns["unit"]),
    )
    network = _public_network(cls, residuals, options)
    model = cls(
        genes=train.var.copy(),
        conditions=gaussian.conditions,
        unit=gaussian.unit,
        settings={**network.settings, "conditions": options.conditions, "lower_bound": options.lower_bound},
        lower_bound=gaussian.lower_bound,
    )
    model.restore(_with_classes(network.state(), gaussian))
    model.record = {**network.record, **gaussian.record}
    if sgd:
        _fine_tune(model, network, train, residuals, gaussian, privacy, rng)
    return model


def _public_network(cls: type[Generator], residuals: ad.AnnData, options: Any) -> Generator:
    """The network of what varies within classes, trained on a reference; it knows one class.

    Folds of the preconditioner are classes, so that the variance along its axes is that of *other* classes. Donors of
    the reference that are set aside stop the training. It is trained once for all cohorts of a process.
    """
    label = options.conditions[0]
    names, donor = np.unique(residuals.obs["donor"], return_inverse=True)
    aside = np.random.default_rng(0).permutation(len(names))[donor] < max(round(ASIDE * len(names)), 1)
    groups = residuals.obs[label if residuals.obs[label].nunique() > 1 else "donor"]
    obs = pd.DataFrame({label: "all", "donor": groups.to_numpy()}, index=residuals.obs_names)
    values = dense(residuals)
    train, validation = (
        make_profiles(values[rows], obs[rows], residuals.var, str(residuals.uns["unit"])) for rows in (~aside, aside)
    )
    # neither a map nor a bound of values: these are no profiles
    options = options.model_copy(update={"marginal_map": False, "lower_bound": "none", "train_on": "train"})
    key = f"{cls.name} {fingerprint(train, validation, options)}"
    if key not in _RECENT:
        while len(_RECENT) >= KEPT:
            _RECENT.pop(next(iter(_RECENT)), None)
        _RECENT[key] = cls.fit(train, validation, options)
    return _RECENT[key]


def _with_classes(tensors: dict[str, np.ndarray], gaussian: ClassGaussian) -> dict[str, np.ndarray]:
    """The state of a network of one class as that of a network of the Gaussian's classes, in the unit of profiles.

    A profile is the class mean + scale √factor z, for a draw z of the network. The factor multiplies squares as the log
    scale does. The embedding of every class is that of the one class.

    Raises:
        ValueError: if labels enter the network in another way than by embeddings.
    """
    named: dict[str, str] = {}
    for name in tensors:
        for end in ENDS:
            if name.endswith(end):
                named[end] = name
    count, scale = len(gaussian.means), gaussian.scale
    centre, width, effects, log_scale = (named[end] for end in ENDS[:4])
    found = dict(tensors)
    middle = gaussian.means.mean(axis=0)
    # a gene that is constant in the reference still has class means
    found[width] = np.maximum(scale * tensors[width], 1e-6)
    found[centre] = middle + scale * tensors[centre]
    found[effects] = tensors[effects] + (gaussian.means - middle) / found[width]
    found[log_scale] = tensors[log_scale] + 2 * np.log(gaussian.weights[:, :1])
    if (limits := named.get(ENDS[4])) is not None:
        low, high = tensors[limits]
        found[limits] = np.stack([found[effects].min(axis=0) + low, found[effects].max(axis=0) + high])
    for name, table in tensors.items():
        if name.endswith("labels.tables.0.weight"):
            # the row of no label, for guidance, comes last
            found[name] = np.concatenate([np.repeat(table[:1], count, axis=0), table[1:]])
    return {name: value.astype(tensors[name].dtype) for name, value in found.items()}


def _fine_tune(
    model: Generator,
    network: Generator,
    train: ad.AnnData,
    residuals: ad.AnnData,
    gaussian: ClassGaussian,
    privacy: PrivacyOptions,
    rng: np.random.Generator,
) -> None:
    """DP-SGD on the cohort; what is left of (epsilon, delta) sets its noise, public profiles the clipping."""
    from transcriptome_diffusion.generators import dp_sgd

    options, others = privacy.dp_sgd, tuple(gaussian.record["noise_multipliers"])
    module, _ = _network(model)
    learnt = module.network if hasattr(module, "network") else module
    dp_sgd.refuse_unsupported(learnt, model.name)
    multiplier = dp_sgd.sgd_noise(others, privacy.epsilon, privacy.delta, options.sampling_rate, options.steps)

    def donors(profiles: ad.AnnData, fitted: Generator) -> dp_sgd.Donors:
        codes = torch.from_numpy(fitted.conditions.to_codes(profiles.obs))
        with torch.no_grad():
            u = _network(fitted)[1].to_coordinates(torch.from_numpy(dense(profiles)), codes)
        return dp_sgd.Donors(u, codes, donors_of(profiles))

    def trained(of: Any) -> list[torch.nn.Parameter]:
        named = of.named_parameters()
        return [p for name, p in named if options.trained == "all" or ".labels." in f".{name}"]

    public = residuals.copy()
    public.obs = public.obs.assign(**dict.fromkeys(network.conditions.names, "all"))
    clip = dp_sgd.gradient_norm(
        _network(network)[0], trained(_network(network)[0]), donors(public, network), options, rng
    )
    expected = options.sampling_rate * float(gaussian.classes.sizes.sum())
    dp_sgd.fine_tune(module, trained(module), donors(train, model), multiplier, clip, expected, options, rng)
    rate, steps = options.sampling_rate, options.steps
    spent = dp_sgd.composed_epsilon(others, privacy.delta, multiplier, rate, steps)
    model.record["privacy"] = {
        "dial": "dp",
        **statement(spent, privacy.delta, f"sums of clipped gradients, with noise, of {steps} steps of DP-SGD"),
        "dp_sgd": {"noise_multiplier": multiplier, "clip": clip, "sampling_rate": rate, "steps": steps},
    }


# ------------------------------------------------------------------- a network of the reference and the cohort
def _pretrained(
    cls: type[Generator], train: ad.AnnData, validation: ad.AnnData, options: Any, reference: ad.AnnData
) -> Generator:
    """Trained on the reference and the cohort, fine-tuned on the cohort; the model knows the classes of both."""
    label = options.conditions[0]
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
        names = prefix + part.obs[label].astype(str)
        table = {label: names.to_numpy(), "donor": [prefix + donor for donor in donors_of(part)]}
        tables.append(pd.DataFrame(table, index=prefix + part.obs_names.astype(str)))
    values = np.concatenate([dense(train), dense(reference)])
    return make_profiles(values, pd.concat(tables), train.var, str(train.uns["unit"]))
