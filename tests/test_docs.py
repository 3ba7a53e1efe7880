"""The documentation: every example of its pages on use runs, and its generated pages are complete."""

from __future__ import annotations

import importlib.util
import re
import shlex

import pytest
import yaml
from click.testing import CliRunner

import transcriptome_diffusion as td
from notebook_cells import run_cells
from populations import SIZES, draw
from transcriptome_diffusion import api, training
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.generators.runs import trainings
from transcriptome_diffusion.metrics.options import ClassifierOptions, EvaluationOptions
from transcriptome_diffusion.metrics.registry import METRICS
from transcriptome_diffusion.reconstruction import fit_reconstructor

GENES = 30
#: pages whose examples need no project
PAGES = ("generate.md", "compare.md", "python.md", "index.md")


class QuickScores(EvaluationOptions):
    """Smaller classifiers than by default, for examples that leave the defaults as they are."""

    components: int = 5
    folds: int = 2
    classifier: ClassifierOptions = ClassifierOptions(hidden=[8], epochs=2, seeds=[0])


@pytest.fixture
def quick(monkeypatch):
    """Examples train for a few steps, and their classifiers are small: the question is whether they run."""
    fit = training.fit

    def short(network, train, validation, options, seed, title="training"):
        steps = min(options.max_steps, 20)
        options = options.model_copy(update={"max_steps": steps, "validate_every": min(options.validate_every, steps)})
        return fit(network, train, validation, options, seed, title)

    monkeypatch.setattr(training, "fit", short)
    monkeypatch.setattr(api, "EvaluationOptions", QuickScores)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages talk of: a cohort with columns of its own, and trained models of few genes."""
    folder = tmp_path_factory.mktemp("docs")
    whole, other = draw(SIZES, 0), draw(SIZES, 1)
    train, validation = whole[:, :GENES].copy(), other[:, :GENES].copy()
    data = train.copy()
    data.obs = data.obs.rename(columns={"tissue": "organ", "donor": "patient"})
    del data.uns["unit"]
    data.write_h5ad(folder / "cohort.h5ad")
    (folder / "data" / "03_primary").mkdir(parents=True)
    train.write_h5ad(folder / "data" / "03_primary" / "expression_train.h5ad")
    models = folder / "data" / "06_models"
    quick = {"training": {"max_steps": 3, "validate_every": 3}}
    for name, generator in (("vae", "vae"), ("denoiser", "ddim")):
        td.fit(generator, train, validation, **quick).save(models / name / "run_1")
    for model in trainings(ClassGaussian, {"landmarks": (train, validation, ClassGaussianOptions())}, runs=1):
        model.save(models / "class_gaussian")
    fit_reconstructor("ridge", train, whole, validation, other, {}).save(models / "reconstructors" / "ridge")
    return folder


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_every_example_runs(project, folder, page, quick, monkeypatch):
    """In the order of the page, which is that of a reader."""
    monkeypatch.chdir(folder)
    names, ran = {}, 0
    for language, block in re.findall(
        r"^```(python|bash)\n(.*?)^```", (project / "docs" / page).read_text(), re.DOTALL | re.MULTILINE
    ):
        if language == "python":
            exec(compile(block, page, "exec"), names)
            ran += 1
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("transcriptome-diffusion ") and not (page == "index.md" and "score" in line):
                run = CliRunner().invoke(cli, shlex.split(line)[1:])
                assert run.exit_code == 0, f"{line}\n{run.output}"
                ran += 1
    assert ran >= 2


def test_what_the_quick_start_scores_is_what_the_page_on_comparisons_scores(project):
    """So that the command, which takes a while, need not run twice."""
    commands = [
        next(
            part
            for block in blocks((project / "docs" / page).read_text(), "bash")
            for part in [block]
            if "score" in part
        )
        for page in ("index.md", "compare.md")
    ]
    assert commands[0] == commands[1]


@pytest.fixture(scope="module")
def pages(project):
    spec = importlib.util.spec_from_file_location("pages", project / "docs" / "hooks" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_metrics_has_all_of_them_with_range_and_limits(pages):
    text = pages.metrics_page()
    for name, metric in METRICS.items():
        assert f"`{name}`" in text
        assert metric.limits in text
        assert metric.citation in text
    assert "nan" not in text


def test_the_list_of_parameters_has_every_key_of_conf_base(project, pages):
    text = pages.parameters_page(project / "conf")
    blocks = {part.split("`")[1]: part for part in re.split(r"\n###? (?=`)", text)[1:]}
    run = text.split("## Of a whole run")[1].split("\n## ")[0]
    for path in [project / "conf" / "base" / "globals.yml", *(project / "conf" / "base").glob("parameters_*.yml")]:
        for name, value in (yaml.load(path.read_text(), yaml.BaseLoader) or {}).items():
            if name.startswith("_"):  # a part of another
                continue
            if path.name in pages.WHOLE_RUN:
                assert f"| `{name}` |" in run
            else:
                assert name.removeprefix("direct_") in blocks, (path.name, name)
            for key in value if name in pages.BLOCKS else ():
                assert f"`{key}" in blocks[name], (name, key)
    for name, spec in GENERATORS.items():
        assert (spec.model or name) in blocks
    assert all(row.count(" | ") == 2 and not row.endswith("|  |") for row in run.splitlines() if row.startswith("| `"))
    assert "PydanticUndefined" not in text


def test_messages_that_the_page_on_trouble_explains_are_those_of_the_code(project):
    """Fragments between dots and quoted values; libraries' own messages are named here."""
    foreign = {"Extra inputs are not permitted", "NotEnoughMemoryError"}
    source = "\n".join(path.read_text() for path in (project / "src").rglob("*.py"))
    source = re.sub(r"\"\s*\n\s*f?\"", "", source)  # one string over several lines
    source = re.sub(r"\{[^{}\n]*\}", "{}", source)
    text = (project / "docs" / "troubleshooting.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 10
    for message in re.findall(r"`([^`]+)`", "\n".join(rows)):
        if message in foreign:
            continue
        for part in re.split(r"\.\.\.|'\w+'|\d+", message):
            assert part.strip(" ;") in source, (message, part)


def test_the_notebook_without_kedro_runs(project, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = run_cells(project / "notebooks" / "03_own_cohort_without_kedro.ipynb")
    tables = "".join(str(value) for source, value in cells if value is not None and "wide(" in source)
    for row in ("real", "memoriser", "class_gaussian", "ddim", "independent"):
        assert row in tables
