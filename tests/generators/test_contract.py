"""What every registered generator promises; a new one joins by standing in the registry."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from transcriptome_diffusion.artefacts import ArtefactError, read_description, read_tensors, write_model
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.base import Generator, choose_lower_bound
from transcriptome_diffusion.generators.registry import load_generator, trained_models

#: every trained model of ``GENERATORS``, by the name of its class
MODELS = {spec.load_class().name: spec for spec in trained_models().values()}
UNIT = "log2(FPKM + 1)"
GENES = 12
CENTRES = {"kidney": np.linspace(3, 9, GENES), "liver": np.linspace(8, 5, GENES)}
SPREAD = np.linspace(0.3, 1.2, GENES)

#: settings that train in a second; what is left out here is the default
SMALL: dict[str, dict[str, Any]] = {
    "diffusion": {
        "log_scale_share": 0.7,
        "components_per_sample": 0.25,
        "network": {"width": 32, "depth": 1, "dropout": 0.1, "embedding_dim": 16},
        "training": {"max_steps": 60, "validate_every": 20, "batch_size": 64, "precision": "float32"},
        "sampler": {"steps": 50},
    },
    "vae": {
        "hidden": [32],
        "latent_dim": 4,
        "dropout": 0,
        "beta": 6.0,
        "log_scale_share": 0.85,
        "components_per_sample": 0.01,  # 6 of the 12 axes, so that the other axes have to be saved as well
        "training": {"max_steps": 60, "validate_every": 20, "batch_size": 64, "precision": "float32"},
    },
    "wgan_gp": {
        "hidden": [32],
        "latent_dim": 4,
        "components_per_sample": 0.01,
        "critic": {"hidden": [32], "steps": 2, "learning_rate": 5e-3, "gradient_penalty": 10.0},
        "training": {
            "max_steps": 60,
            "validate_every": 20,
            "batch_size": 64,
            "learning_rate": 5e-4,
            "warmup": 0.3,
            "optimizer": "adam",
            "betas": [0, 0.9],
            "weight_decay": 0,
            "precision": "float32",
        },
    },
    "flow_matching": {
        "log_scale_share": 0.7,
        "components_per_sample": 0.25,
        "network": {"width": 32, "depth": 1, "dropout": 0.1, "embedding_dim": 16},
        "training": {"max_steps": 60, "validate_every": 20, "batch_size": 64, "precision": "float32"},
    },
}


def cohort(n: int, seed: int) -> ad.AnnData:
    """Two tissues, independent normal genes with CENTRES and SPREAD; ``sex`` shifts the first gene."""
    rng = np.random.default_rng(seed)
    tissue = np.array(["liver", "kidney"])[(np.arange(n) % 3 == 0).astype(int)]
    sex = np.array(["f", "m"])[rng.integers(0, 2, n)]
    values = np.stack([CENTRES[t] for t in tissue]) + rng.normal(size=(n, GENES)) * SPREAD
    values[:, 0] += 3 * (sex == "m")
    obs = pd.DataFrame(
        {"tissue": tissue, "sex": sex, "donor": [f"d{i}" for i in range(n)]},
        index=[f"s{seed}-{i}" for i in range(n)],
    )
    names = [f"g{i}" for i in range(GENES)]
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), UNIT)


@pytest.fixture(scope="module")
def train() -> ad.AnnData:
    return cohort(600, seed=1)


@pytest.fixture(scope="module")
def validation() -> ad.AnnData:
    return cohort(150, seed=2)


def fitted(name: str, train: ad.AnnData, validation: ad.AnnData, **settings: Any) -> Generator:
    spec = MODELS[name]
    options = spec.options.model_validate({**SMALL.get(name, {}), "seed": 5, **settings})
    return spec.load_class().fit(train, validation, options)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, train: ad.AnnData, validation: ad.AnnData) -> Generator:
    return fitted(request.param, train, validation, conditions=["tissue", "sex"], seed=0)


def labels(n: int, tissue: str = "liver", sex: str = "f") -> pd.DataFrame:
    return pd.DataFrame({"tissue": [tissue] * n, "sex": [sex] * n})


def test_one_profile_per_label_in_order_and_in_the_training_unit(model: Generator, train: ad.AnnData) -> None:
    wanted = train.obs.iloc[[3, 0, 7, 1, 1]]
    drawn = model.sample(wanted, seed=0)
    assert drawn.shape == (5, GENES)
    assert drawn.X.dtype == np.float32
    assert drawn.uns["unit"] == UNIT
    assert drawn.uns["generator"]["seed"] == 0
    assert list(drawn.obs["tissue"]) == list(wanted["tissue"])
    assert list(drawn.obs["sex"]) == list(wanted["sex"])
    assert list(drawn.var_names) == list(train.var_names)
    assert drawn.obs_names.is_unique


def test_a_table_without_rows_gives_no_profiles(model: Generator) -> None:
    assert model.sample(labels(0), seed=0).shape == (0, GENES)


def test_the_seed_decides(model: Generator) -> None:
    first, again, other = (model.sample(labels(20), seed).X for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.isclose(first, other).any(axis=1).all()


def test_sampling_leaves_the_global_random_state_alone(model: Generator) -> None:
    before, before_torch = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    model.sample(labels(5), seed=1)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before_torch)


def test_profiles_of_one_draw_all_differ(model: Generator) -> None:
    drawn = model.sample(labels(200), seed=3, batch_size=64).X
    assert len(np.unique(drawn.round(4), axis=0)) == 200


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_the_batch_size_changes_neither_shape_nor_labels(model: Generator, batch_size: int) -> None:
    wanted = pd.concat([labels(6, "liver"), labels(5, "kidney")], ignore_index=True)
    drawn = model.sample(wanted, seed=4, batch_size=batch_size)
    assert drawn.shape == (11, GENES)
    expected = np.stack([CENTRES[t] for t in wanted["tissue"]])
    # the two tissues are many standard deviations apart in the last gene or the first
    assert (np.abs(drawn.X - expected)[:, 1:-1].mean(1) < 2.5).all()


def test_an_unknown_label_is_refused_by_name(model: Generator) -> None:
    with pytest.raises(ValueError, match=r"unknown tissue: \['spleen'\].*kidney"):
        model.sample(labels(2, tissue="spleen"), seed=0)


def test_a_missing_condition_is_refused_by_name(model: Generator) -> None:
    with pytest.raises(ValueError, match="'sex'"):
        model.sample(labels(2).drop(columns="sex"), seed=0)


def test_a_condition_that_training_lacks_is_refused(
    model: Generator, train: ad.AnnData, validation: ad.AnnData
) -> None:
    with pytest.raises(ValueError, match="'age' is not a column"):
        fitted(model.name, train, validation, conditions=["age"])


def test_other_genes_for_validation_are_refused(model: Generator, train: ad.AnnData, validation: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="genes"):
        fitted(model.name, train, validation[:, ::-1].copy())


def test_a_saved_model_samples_the_same(model: Generator, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    loaded = load_generator(tmp_path / "model")
    assert type(loaded) is type(model)
    assert np.array_equal(loaded.sample(labels(9), seed=6).X, model.sample(labels(9), seed=6).X)
    assert loaded.record == model.record
    assert loaded.genes.equals(model.genes)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "model.json",
        "model_card.md",
        "tensors.safetensors",
    ]


def test_another_kind_of_model_is_refused(model: Generator, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    other = next(spec for name, spec in MODELS.items() if name != model.name)
    with pytest.raises(ArtefactError, match=f"'{model.name}'"):
        other.load_class().load(tmp_path / "model")


def test_a_model_without_a_part_of_its_arrays_is_refused(model: Generator, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    tensors = read_tensors(tmp_path / "model")
    tensors.pop(sorted(tensors)[0])
    write_model(tmp_path / "broken", read_description(tmp_path / "model"), tensors)
    with pytest.raises(ArtefactError, match="do not fit"):
        load_generator(tmp_path / "broken")


def check_clusters(model: Generator) -> None:
    """Two known clusters and a second condition are learnt."""
    assert not model.record.get("stopped")
    groups = list(product(("kidney", "liver"), ("f", "m")))
    drawn = model.sample(pd.concat([labels(600, *group) for group in groups], ignore_index=True), seed=7).X
    for (tissue, sex), values in zip(groups, np.split(drawn, len(groups)), strict=True):
        expected = CENTRES[tissue] + np.where(np.arange(GENES) == 0, 3 * (sex == "m"), 0)
        # the smallest group has about 100 training profiles: five standard errors of its mean
        assert (np.abs(values.mean(0) - expected) < 0.5 * SPREAD + 0.05).all(), (tissue, sex)
        assert values.std(0) == pytest.approx(SPREAD, rel=0.25, abs=0.1), (tissue, sex)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("name", MODELS)
def test_two_known_clusters_and_a_second_condition_are_learnt_with_every_seed(
    name: str, seed: int, train: ad.AnnData, validation: ad.AnnData
) -> None:
    check_clusters(fitted(name, train, validation, conditions=["tissue", "sex"], seed=seed))


def test_training_again_with_the_same_seed_gives_the_same_model_which_has_learnt_the_clusters(
    model: Generator, train: ad.AnnData, validation: ad.AnnData
) -> None:
    check_clusters(model)
    again = fitted(model.name, train, validation, conditions=["tissue", "sex"], seed=0)
    assert np.array_equal(again.sample(labels(5), seed=1).X, model.sample(labels(5), seed=1).X)


@pytest.mark.parametrize("name", MODELS)
def test_no_value_lies_below_zero_where_training_profiles_hardly_reach_it(
    name: str, train: ad.AnnData, validation: ad.AnnData, tmp_path: Path
) -> None:
    """log2(x + 1) of an abundance; one gene comes near zero here."""
    parts = [part.copy() for part in (train, validation)]
    for part in parts:
        part.X += 20 * (np.arange(GENES) > 0).astype(np.float32) - np.median(train.X, axis=0)
        part.X = np.maximum(part.X, 0.001)
    quick = {"training": {**SMALL[name]["training"], "max_steps": 20}} if name in SMALL else {}
    model = fitted(name, *parts, conditions=["tissue"], marginal_map=False, **quick)
    assert model.sample(labels(200), seed=0).X.min() == 0
    model.save(tmp_path / name)
    assert load_generator(tmp_path / name).lower_bound == 0


def test_values_are_left_as_drawn_where_zeros_are_common() -> None:
    values = np.random.default_rng(0).uniform(1, 2, (100, 50)).astype(np.float32)
    values.ravel()[:40] = 0
    assert choose_lower_bound(values) == 0
    values.ravel()[:60] = 0
    assert choose_lower_bound(values) is None
    assert choose_lower_bound(values - 3) is None
    values.ravel()[:40] = 1
    assert choose_lower_bound(values - 3) == -3
