"""Profiles on request: who is asked for, what is drawn, and that files of every format hold the same profiles."""

from __future__ import annotations

import gzip
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from kedro.io import DatasetError

import transcriptome_diffusion as td
from populations import SIZES, draw
from transcriptome_diffusion import generation
from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.datasets import FolderDataset, RequestDataset
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.options import ClassGaussianOptions, DiffusionOptions, GenerationOptions
from transcriptome_diffusion.generators.runs import trainings
from transcriptome_diffusion.reconstruction import fit_reconstructor

GENES = 60


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Trained models as a run leaves them: ``class_gaussian`` in both spaces, and a ridge reconstructor."""
    folder = tmp_path_factory.mktemp("06_models")
    train, other = draw(SIZES, 0), draw(SIZES, 1)
    data = {
        "landmarks": (train[:, :GENES].copy(), other[:, :GENES].copy(), ClassGaussianOptions()),
        "transcriptome": (train, other, ClassGaussianOptions()),
    }
    for training in trainings(ClassGaussian, data, runs=1):
        training.save(folder / "class_gaussian")
    pairs = (data["landmarks"][0], train, data["landmarks"][1], other)
    fit_reconstructor("ridge", *pairs, {}).save(folder / "reconstructors" / "ridge")
    return folder


@pytest.fixture(scope="module")
def model(models):
    return td.load_generator(models / "class_gaussian")


# ------------------------------------------------------------------------------------------- what is asked for
def test_labels_come_in_the_order_and_number_that_were_asked_for(model):
    labels = td.label_table(model, {"skin": 2, "brain": 3})
    assert labels["tissue"].tolist() == ["skin"] * 2 + ["brain"] * 3


@pytest.mark.parametrize("total", [1, 7, 270, 1000])
def test_without_labels_the_proportions_are_those_of_training(model, total):
    counts = td.label_table(model, total=total)["tissue"].value_counts()
    assert counts.sum() == total
    for tissue, size in SIZES.items():
        assert abs(counts.get(tissue, 0) - total * size / sum(SIZES.values())) < 1


def test_as_many_as_in_training_unless_told_otherwise(model):
    assert td.label_table(model)["tissue"].value_counts().to_dict() == SIZES


def test_of_several_conditions_the_first_alone_is_shared_out_as_in_training(tmp_path):
    train = draw(SIZES, 0)
    options = ClassGaussianOptions(conditions=["tissue", "sample_type"])
    for training in trainings(ClassGaussian, {"landmarks": (train, draw(SIZES, 1), options)}, runs=1):
        training.save(tmp_path / "model")
    model = td.load_generator(tmp_path / "model")
    both = td.label_table(model, {"liver": 30, "skin|tumor": 4})
    assert both.groupby(["tissue", "sample_type"]).size().to_dict() == {
        ("liver", "normal"): 20,  # every third is a tumour
        ("liver", "tumor"): 10,
        ("skin", "tumor"): 4,
    }
    with pytest.raises(ValueError, match=r"no tissue\|sample_type 'skin\|cyst'; it knows brain\|normal, brain\|tumor"):
        td.label_table(model, {"skin|cyst": 1})


@pytest.mark.parametrize("number", [0, -3, 1.5, True])
def test_an_impossible_number_is_refused(model, number):
    with pytest.raises(ValueError, match="whole number, 1 or more"):
        td.label_table(model, {"skin": number})


def test_an_unknown_label_names_the_known_ones(model):
    with pytest.raises(ValueError, match="no tissue 'lung'; it knows brain, liver, skin"):
        td.label_table(model, {"lung": 5})


def test_a_folder_without_a_model_says_what_was_expected(models, tmp_path):
    with pytest.raises(ArtefactError, match=r"no trained generator at .*nowhere: expected a folder with model.json"):
        td.load_generator(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------ what is drawn
def test_few_profiles_are_those_of_the_model_itself(model):
    labels = td.label_table(model, {"liver": 5, "skin": 5})
    [part] = generation.draw(model, labels, seed=3)
    np.testing.assert_array_equal(part.X, model.sample(labels, seed=3).X)
    assert part.obs["tissue"].tolist() == labels["tissue"].tolist()


def test_chunks_differ_and_repeat_with_the_seed(model):
    labels = td.label_table(model, {"liver": 40})
    first, again = (list(generation.draw(model, labels, seed=3, chunk=20)) for _ in range(2))
    assert [part.n_obs for part in first] == [20, 20]
    assert not np.allclose(first[0].X, first[1].X)
    for part, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(part.X, other.X)
    names = [name for part in first for name in part.obs_names]
    assert len(set(names)) == 40


def test_a_reconstructor_makes_all_genes_and_keeps_the_landmarks(models, model):
    labels = td.label_table(model, {"brain": 4})
    [plain] = generation.draw(model, labels, 0)
    for name in ("ridge", "ridge_noise"):
        how = generation.reconstruction(name, models / "reconstructors")
        [whole] = generation.draw(model, labels, 0, **how)
        assert whole.n_vars == draw({"brain": 2, "liver": 2}, 0).n_vars
        np.testing.assert_allclose(whole[:, plain.var_names].X, plain.X, rtol=1e-6)
    with pytest.raises(ValueError, match=r"no reconstructor 'mlp' in .*, where there are \['ridge'\]"):
        generation.reconstruction("mlp", models / "reconstructors")


def test_a_mapping_of_labels_and_none_are_what_sample_takes_too(model):
    some = model.sample({"liver": 5, "skin": 2}, seed=3)
    assert some.obs["tissue"].tolist() == ["liver"] * 5 + ["skin"] * 2
    np.testing.assert_array_equal(some.X, model.sample(td.label_table(model, {"liver": 5, "skin": 2}), seed=3).X)
    assert model.sample().obs["tissue"].value_counts().to_dict() == SIZES
    with pytest.raises(ValueError, match="no tissue 'lung'; it knows brain, liver, skin"):
        model.sample({"lung": 5})


def test_a_training_is_chosen_and_a_sampler_is_no_folder(models):
    with pytest.raises(ArtefactError, match=r"class_gaussian has no run_3; it has run_1"):
        td.load_generator(models / "class_gaussian", run=3)
    with pytest.raises(ArtefactError, match=r"ddim is a sampler of the model .*denoiser"):
        td.load_generator(models / "ddim")


def ask(models, samplers=None, **options):
    return generation.request(models, GenerationOptions.model_validate(options), samplers)


def test_a_generator_is_asked_for_by_its_name(models, tmp_path):
    name, request = ask(models, generator="class_gaussian", profiles={"liver": 3, "skin": 2}, seed=4, format="csv")
    found = pd.read_csv(request.write(tmp_path / name), index_col=0)
    assert name == "class_gaussian.csv"
    assert found["tissue"].tolist() == ["liver"] * 3 + ["skin"] * 2
    expected = td.load_generator(models / "class_gaussian").sample({"liver": 3, "skin": 2}, seed=4)
    np.testing.assert_allclose(found.drop(columns="tissue").to_numpy(), expected.X, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"generator": "dim"}, r"`generation.generator` is 'dim'; expected one of \['class_gaussian'"),
        ({"generator": "class_gaussian", "profiles": {"lung": 5}}, "no tissue 'lung'; it knows brain, liver, skin"),
        ({"generator": "class_gaussian", "steps": 5}, "draws in one pass"),
        ({"generator": "class_gaussian", "transcriptome": "mlp"}, "no reconstructor 'mlp'"),
        ({"generator": "ddim"}, "no trained generator at .*denoiser"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_drawn(models, options, said):
    with pytest.raises(ValueError, match=said):
        ask(models, **options)


def test_samplers_of_one_model_are_told_apart_by_the_name_of_the_generator(tmp_path):
    options = DiffusionOptions.model_validate(
        {"network": {"width": 8, "depth": 1, "embedding_dim": 4}, "training": {"max_steps": 2, "validate_every": 1}}
    )
    train, other = draw({"brain": 12, "liver": 12}, 0)[:, :5].copy(), draw({"brain": 6, "liver": 6}, 1)[:, :5].copy()
    for training in trainings(Diffusion, {"landmarks": (train, other, options)}, runs=2):
        training.save(tmp_path / "denoiser")
    blocks = {"ddpm": {"name": "ddpm", "steps": 9}, "ddim": {"name": "ddim", "steps": 8, "spacing": "leading"}}
    chosen = {
        name: ask(tmp_path, blocks, generator=name, profiles={"liver": 2}, sampler={"exact_gaussian": False})[1]
        for name in blocks
    }
    assert {name: (how.how["sampler"].name, how.how["sampler"].steps) for name, how in chosen.items()} == {
        "ddpm": ("ddpm", 9),
        "ddim": ("ddim", 8),
    }
    assert chosen["ddim"].how["sampler"].spacing == "leading"
    assert not chosen["ddim"].how["sampler"].exact_gaussian
    assert ask(tmp_path, blocks, generator="ddim", steps=3)[1].how["sampler"].steps == 3
    second = ask(tmp_path, blocks, generator="ddim", run=2)[1].model
    assert second.record["run"] == 2
    with pytest.raises(ValueError, match="spaccing"):
        ask(tmp_path, blocks, generator="ddim", sampler={"spaccing": "leading"})


def test_profiles_on_request_are_written_when_they_are_saved(models, tmp_path):
    name, request = ask(models, generator="class_gaussian", total=4)
    dataset = RequestDataset(filepath=str(tmp_path / "generated"))
    assert not dataset.exists()
    dataset.save({name: request})
    assert dataset.exists()
    assert ad.read_h5ad(tmp_path / "generated" / "class_gaussian.h5ad").n_obs == 4
    with pytest.raises(DatasetError, match="never read"):
        dataset.load()


def test_a_folder_is_loaded_as_its_path_if_it_is_there(models, tmp_path):
    assert FolderDataset(filepath=str(models)).load() == models
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        FolderDataset(filepath=str(tmp_path / "nowhere")).load()


# ------------------------------------------------------------------------------------------------------- files
def read(path):
    """Samples x genes, whatever the format."""
    if path.suffix == ".h5ad":
        return ad.read_h5ad(path).to_df()
    if ".gct" in path.suffixes:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            assert file.readline() == "#1.2\n"
            genes, samples = map(int, file.readline().split())
            table = pd.read_csv(file, sep="\t", index_col="Name").drop(columns="Description").T
        assert table.shape == (samples, genes)
        return table
    if path.suffix == ".parquet":
        return pd.DataFrame(pl.read_parquet(path).to_dict(as_series=False)).set_index("sample").drop(columns="tissue")
    return pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",", index_col=0).drop(columns="tissue")


@pytest.mark.parametrize("ending", generation.FORMATS)
def test_every_format_holds_the_same_profiles(model, tmp_path, ending):
    labels = td.label_table(model, {"liver": 7, "skin": 6})
    path = generation.write(generation.draw(model, labels, 0, chunk=5), tmp_path / f"new{ending}", labels)
    expected = np.concatenate([part.X for part in generation.draw(model, labels, 0, chunk=5)])
    np.testing.assert_allclose(read(path).to_numpy(float), expected, rtol=1e-5)
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name]


def test_an_h5ad_keeps_labels_genes_unit_and_provenance(model, tmp_path):
    labels = td.label_table(model, {"liver": 3})
    found = ad.read_h5ad(generation.write(generation.draw(model, labels, 9), tmp_path / "new.h5ad", labels))
    assert found.obs["tissue"].tolist() == ["liver"] * 3
    assert found.var["symbol"].tolist() == model.genes["symbol"].tolist()
    assert found.uns["unit"] == model.unit
    assert found.uns["generator"]["seed"] == 9


def test_linear_values_undo_the_logarithm(model, tmp_path):
    labels = td.label_table(model, {"liver": 3})
    logged, linear = (
        ad.read_h5ad(generation.write(generation.draw(model, labels, 0), tmp_path / f"{scale}.h5ad", labels, scale))
        for scale in generation.SCALES
    )
    np.testing.assert_allclose(linear.X, 2.0 ** logged.X.clip(min=0) - 1, rtol=1e-4, atol=1e-4)
    assert linear.uns["unit"] == "CPM"


@pytest.mark.parametrize(
    ("name", "scale", "said"), [("a.xlsx", "log2", "ends in none of"), ("a.csv", "ln", "scale is")]
)
def test_what_cannot_be_written_is_refused_before_anything_is_drawn(model, tmp_path, name, scale, said):
    labels = td.label_table(model, {"liver": 3})
    with pytest.raises(ValueError, match=said):
        generation.write(generation.draw(model, labels, 0), tmp_path / name, labels, scale)
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_no_file(model, tmp_path):
    labels = td.label_table(model, {"liver": 30})

    def interrupted():
        yield next(iter(generation.draw(model, labels, 0, chunk=10)))
        raise KeyboardInterrupt

    for ending in generation.FORMATS:
        with pytest.raises(KeyboardInterrupt):
            generation.write(interrupted(), tmp_path / f"new{ending}", labels)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------- the command line
def test_the_command_line_draws_and_repeats(models, tmp_path):
    arguments = ["generate", "--model", str(models / "class_gaussian"), "--profiles", "skin=4", "--profiles", "liver=3"]
    for name in ("one.h5ad", "two.h5ad"):
        run = CliRunner().invoke(cli, [*arguments, "--seed", "5", "--out", str(tmp_path / name)])
        assert run.exit_code == 0, run.output
        assert "7 profiles" in run.output
    one, two = (ad.read_h5ad(tmp_path / name) for name in ("one.h5ad", "two.h5ad"))
    np.testing.assert_array_equal(one.X, two.X)
    assert one.obs["tissue"].tolist() == ["skin"] * 4 + ["liver"] * 3


@pytest.mark.parametrize(
    ("folder", "transcriptome"),
    [("class_gaussian", "ridge_noise"), ("class_gaussian/run_1", "ridge_noise"), ("class_gaussian", "direct")],
)
def test_the_command_line_makes_all_genes(models, tmp_path, folder, transcriptome):
    run = CliRunner().invoke(
        cli,
        [
            *("generate", "--model", str(models / folder), "--total", "5"),
            *("--transcriptome", transcriptome, "--out", str(tmp_path / "new.csv")),
        ],
    )
    assert run.exit_code == 0, run.output
    assert pd.read_csv(tmp_path / "new.csv").shape == (5, 2 + draw({"brain": 2, "liver": 2}, 0).n_vars)


@pytest.mark.parametrize("dial", ["reference_axes", "dp"])
def test_a_private_model_draws_all_genes_only_by_reconstructors_that_are_named(models, tmp_path, dial):
    train, other = draw(SIZES, 0), draw(SIZES, 1)
    privacy = {"dial": dial, "epsilon": 8.0, "delta": 1e-4}
    own = (train[:, :GENES].copy(), other[:, :GENES].copy())
    td.fit("class_gaussian", *own, reference=draw(SIZES, 2)[:, :GENES].copy(), privacy=privacy).save(
        tmp_path / "private"
    )
    arguments = ["generate", "--model", str(tmp_path / "private"), "--total", "3", "--transcriptome", "ridge_noise"]
    for named, refused in (([], True), (["--reconstructors", str(models / "reconstructors")], False)):
        run = CliRunner().invoke(cli, [*arguments, *named, "--out", str(tmp_path / "new.h5ad")])
        assert (f"fitted with `privacy.dial: {dial}`" in run.output) == refused
        assert (run.exit_code != 0) == refused, run.output
        assert (tmp_path / "new.h5ad").exists() != refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profiles", "lung=5"], "no tissue 'lung'; it knows brain, liver, skin"),
        (["--profiles", "lung"], "no LABEL=NUMBER"),
        (["--steps", "10"], "draws in one pass"),
        (["--transcriptome", "mlp"], "no reconstructor 'mlp'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_file(models, tmp_path, arguments, said):
    out = tmp_path / "new.h5ad"
    run = CliRunner().invoke(
        cli, ["generate", "--model", str(models / "class_gaussian"), *arguments, "--out", str(out)]
    )
    assert run.exit_code != 0
    assert said in run.output
    assert "Traceback" not in run.output
    assert not out.exists()


def test_a_sampler_of_a_denoiser_can_be_chosen():
    options = DiffusionOptions.model_validate(
        {"network": {"width": 8, "depth": 1, "embedding_dim": 4}, "training": {"max_steps": 2, "validate_every": 1}}
    )
    train = draw({"brain": 12, "liver": 12}, 0)[:, :5].copy()
    model = Diffusion.fit(train, draw({"brain": 6, "liver": 6}, 1)[:, :5].copy(), options)
    chosen = generation.sampler_of(model, {"name": "ddim"}, 7)
    assert (chosen.name, chosen.steps) == ("ddim", 7)
    [part] = generation.draw(model, td.label_table(model, {"liver": 2}), 0, sampler=chosen)
    assert part.uns["generator"]["name"] == "ddim"


def test_a_model_is_described_without_its_weights(models):
    (models / "class_gaussian" / "run_1" / "tensors.safetensors").rename(models / "aside")
    try:
        run = CliRunner().invoke(cli, ["describe", str(models / "class_gaussian")])
    finally:
        (models / "aside").rename(models / "class_gaussian" / "run_1" / "tensors.safetensors")
    found = yaml.safe_load(run.output)
    assert found["generator"] == "class_gaussian"
    assert found["genes"] == GENES
    assert found["labels"] == {"tissue": ["brain", "liver", "skin"]}


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["torch", "anndata", "pandas", "numpy", "kedro", "scipy"]
    code = f"import sys, transcriptome_diffusion; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_public_names_exist():
    for name in td.__all__:
        assert getattr(td, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        td.nonsense  # noqa: B018
