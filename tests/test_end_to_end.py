"""The command line on a copy of the project: one whole run, then what users do with its results.

Processes of their own have the runs in which processes matter; the others run in the process of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from command_line import copied, kedro, kedro_forked, kedro_here, kedro_started, one_thread
from notebook_cells import run_cells, shown
from transcriptome_diffusion.expression.units import to_linear
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.metrics.registry import METRICS
from transcriptome_diffusion.pipelines.evaluation.report import OF_PROFILES, OF_SCORES, TRAINED
from transcriptome_diffusion.reconstruction.registry import RECONSTRUCTORS

#: every generator and reconstructor, or the model of all genes
TRANSCRIPTOMES = [(name, part) for name, spec in GENERATORS.items() for part in spec.standard]

ONLY_MISSING = ("run", "--env", "test", "--only-missing-outputs")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def finished(project, tmp_path_factory):
    """A copy of the project in which `kedro run --env test` has succeeded.

    In one process, as two would import everything once more; a test below ends with several, and the same scorecard.
    """
    copy = copied(project, tmp_path_factory.mktemp("run") / "project", "notebooks")
    before = (copy / "pyproject.toml").read_text()
    run = kedro(copy, "run", "--env", "test", "--params", "workers=1", OMP_NUM_THREADS="1")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert (copy / "pyproject.toml").read_text() == before  # telemetry would have written its id here
    return copy


@pytest.fixture(scope="module")
def results(finished):
    return finished / "data" / "test"


def test_the_scorecard_has_every_row_in_its_fixed_shape(results):
    card = pd.read_csv(results / "08_reporting" / "scorecard.csv")
    fixed = ["generator", "space", "reference", "metric", "mean", "sd", "runs", "n", "reconstructor"]
    assert list(card.columns) == [*fixed, "low", "high", "smallest_difference", "note"]
    assert set(card["generator"]) == {"real", "refit", "expected", "memoriser", "oracle", *GENERATORS}
    whole = card.query("space == 'transcriptome' and reconstructor != 'none'")
    assert set(zip(whole["generator"], whole["reconstructor"], strict=True)) == set(TRANSCRIPTOMES)
    assert set(card["space"]) == {"landmarks", "transcriptome"}
    assert set(card["reference"]) == {"test", "train"}
    # of tumours against normal tissue, and of the user's gene sets
    optional = {name for name in METRICS if name.startswith(("contrast_", "gene_set_"))}
    losses = {name for name in METRICS if name.startswith("loss_attack")}
    scored = card[~card["generator"].isin(["refit", "expected"])]
    for (name, _, space), block in scored.groupby(["generator", "reconstructor", "space"]):
        expected = {metric.name for metric in METRICS.values() if space in metric.spaces} - optional
        if name not in GENERATORS or not GENERATORS[name].white_box:
            expected -= losses
        assert set(block["metric"]) == expected, (name, space)
    assert (card["mean"].isna() == card["note"].notna()).all()
    small = "sign_agreement|markers|top_overlap|slope|tpr_1|dcr|nndr|privacy|closer|_auc|_tpr"
    assert card.loc[~card["metric"].str.contains(small), "mean"].notna().all()
    memoriser = card.query("generator == 'memoriser' and metric == 'copying'")
    assert (memoriser["mean"] > 0.99).all()


def test_single_values_and_single_tissues_are_there(results):
    folder = results / "08_reporting"
    single, card = pd.read_csv(folder / "draws.csv"), pd.read_csv(folder / "scorecard.csv")
    keys = ["generator", "reconstructor", "space", "reference", "metric"]
    means = single.groupby(keys)["value"].mean()
    np.testing.assert_allclose(means[card.set_index(keys).index], card["mean"], rtol=1e-9)
    tissues = pd.read_csv(folder / "by_tissue.csv")
    assert {"accuracy_mlp", "precision", "recall", "lfc_slope", "markers_recovered"} <= set(tissues["metric"])
    assert (tissues["value"].isna() == tissues["note"].notna()).all()


def test_attacks_catch_the_memoriser_and_nobody_among_real_donors(results):
    folder = results / "08_reporting"
    by = pd.read_csv(folder / "scorecard.csv").query("reference == 'train'").set_index(["generator", "metric"])
    by = by[by["space"] == "landmarks"]
    assert by.at[("memoriser", "gan_leaks_auc"), "low"] > 0.6
    assert by.at[("memoriser", "dcr_ratio_p05"), "mean"] == 0
    for row in ("real", "oracle"):
        for attack in ("gan_leaks", "gan_leaks_calibrated", "domias", "domias_gaussian"):
            assert by.at[(row, f"{attack}_auc"), "low"] < 0.5, (row, attack)
    times = pd.read_csv(folder / "by_tissue.csv").query("metric.str.startswith('loss_attack')")
    assert set(times["generator"]) == {name for name, spec in GENERATORS.items() if spec.white_box}
    assert times["label"].str.removeprefix("t=").astype(float).between(0, 1).all()


def test_no_donor_stands_on_two_sides(results):
    donors = {
        split: set(ad.read_h5ad(results / "03_primary" / f"expression_{split}.h5ad", backed="r").obs["donor"])
        for split in ("train", "validation", "test")
    }
    assert not donors["train"] & donors["validation"]
    assert not donors["train"] & donors["test"]
    assert not donors["validation"] & donors["test"]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_leaves_its_landmark_profiles(results, name):
    train = ad.read_h5ad(results / "04_feature" / "landmarks_train.h5ad")
    profiles = ad.read_h5ad(results / "07_model_output" / name / "landmark_profiles.h5ad")
    assert profiles.obs["tissue"].tolist() == train.obs["tissue"].tolist()
    assert profiles.var_names.equals(train.var_names)
    assert profiles.uns["generator"]["name"] == name
    assert profiles.uns["unit"] == train.uns["unit"]


@pytest.mark.parametrize(("name", "part"), TRANSCRIPTOMES)
def test_every_reconstructor_leaves_transcriptomes(results, name, part):
    train = ad.read_h5ad(results / "03_primary" / "expression_train.h5ad")
    whole = ad.read_h5ad(results / "07_model_output" / name / part / "transcriptome_profiles.h5ad")
    assert whole.var_names.equals(train.var_names)
    assert whole.obs["tissue"].tolist() == train.obs["tissue"].tolist()
    assert whole.uns["unit"] == train.uns["unit"]
    if part == "direct":
        return
    profiles = ad.read_h5ad(results / "07_model_output" / name / "landmark_profiles.h5ad")
    np.testing.assert_allclose(whole[:, profiles.var_names].X, profiles.X, rtol=1e-6)
    plain = results / "07_model_output" / name / part.removesuffix("_noise") / "transcriptome_profiles.h5ad"
    if plain.exists():
        assert np.allclose(whole.X, ad.read_h5ad(plain).X) != part.endswith("_noise")


def test_the_gene_table_names_every_target_for_every_reconstructor(results):
    table = pd.read_csv(results / "08_reporting" / "reconstruction_by_gene.csv")
    genes = [
        ad.read_h5ad(results / path, backed="r").var_names
        for path in ("03_primary/expression_train.h5ad", "04_feature/landmarks_train.h5ad")
    ]
    targets = set(genes[0]) - set(genes[1])
    for _, part in table.groupby("reconstructor"):
        assert set(part["gene"]) == targets
        assert {"symbol", "r2", "pearson", "mae", "mae_standardised", "mean", "sd"} <= set(part)
    assert set(pd.read_csv(results / "08_reporting" / "reconstruction_quality.csv")["reconstructor"]) == set(
        RECONSTRUCTORS
    )


def test_profiles_of_a_run_become_a_table_in_linear_units(results, tmp_path):
    """As docs/generate.md says."""
    profiles = ad.read_h5ad(results / "07_model_output/ddim/ridge_noise/transcriptome_profiles.h5ad")
    to_linear(profiles.copy()).to_df().to_csv(tmp_path / "synthetic.csv.gz")
    table = pd.read_csv(tmp_path / "synthetic.csv.gz", index_col=0)
    assert list(table.columns) == list(profiles.var_names)
    np.testing.assert_allclose(table, 2.0 ** profiles.X.clip(min=0) - 1, rtol=1e-4, atol=1e-4)


def test_profiles_can_be_drawn_again_without_training(finished, results):
    weights = results / "06_models" / "denoiser" / "run_1" / "tensors.safetensors"
    trained = weights.stat().st_mtime_ns
    first = ad.read_h5ad(results / "07_model_output" / "ddim" / "landmark_profiles.h5ad").X
    run = kedro_here(finished, "run", "--env", "test", "--nodes", "diffusion_training.draw_ddim")
    assert run.returncode == 0, run.stdout[-2000:]
    np.testing.assert_array_equal(
        ad.read_h5ad(results / "07_model_output" / "ddim" / "landmark_profiles.h5ad").X, first
    )
    assert weights.stat().st_mtime_ns == trained


def test_more_runs_resume_what_is_there_and_fewer_use_the_first(finished, results):
    models = results / "06_models" / "class_kde"
    trained = (models / "run_1" / "tensors.safetensors").read_bytes()
    only = ("run", "--env", "test", "--namespaces", "baselines.class_kde")
    run = kedro_here(finished, *only, "--params", "runs=3,resume=true")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "run 1 of 3 was finished before" in run.stdout
    assert "run 2 of 3" in run.stdout
    assert sorted(path.name for path in models.iterdir()) == ["run_1", "run_2", "run_3"]
    assert (models / "run_1" / "tensors.safetensors").read_bytes() == trained
    profiles = results / "07_model_output" / "class_kde" / "landmark_profiles.h5ad"
    assert sorted(set(ad.read_h5ad(profiles).obs["run"])) == [1, 2, 3]
    run = kedro_here(finished, *only)
    assert run.returncode == 0, run.stdout[-2000:]
    assert "run" not in ad.read_h5ad(profiles).obs or set(ad.read_h5ad(profiles).obs["run"]) == {1}
    assert sorted(path.name for path in models.iterdir()) == ["run_1", "run_2", "run_3"]  # for who resumes


@pytest.mark.parametrize("name", ["01_explore_a_cohort.ipynb", "02_compare_generators.ipynb"])
def test_the_notebooks_run_on_the_results(finished, name, monkeypatch):
    monkeypatch.setenv("KEDRO_ENV", "test")
    monkeypatch.chdir(finished / "notebooks")
    assert any(shown(value) for _, value in run_cells(Path(name)) if value is not None)


def test_the_report_and_its_figures_are_there(results):
    assert "<html" in (results / "08_reporting" / "report.html").read_text()[:200]
    for name in (*OF_PROFILES, "trajectory", *OF_SCORES, "training"):
        figure = json.loads((results / "08_reporting" / f"{name}.json").read_text())
        assert figure["data"] or name == "umap_landmarks"  # on request


def test_every_training_leaves_its_curve_and_its_end(results):
    curves = pd.read_csv(results / "08_reporting" / "training_curves.csv")
    assert {"run", "step", "epoch", "train_loss", "validation_loss", "learning_rate", "seconds"} <= set(curves)
    summary = pd.read_csv(results / "08_reporting" / "training_summary.csv").set_index("generator")
    assert set(summary.index) == set(TRAINED)
    for name, part in curves.groupby("generator"):
        assert part["step"].is_monotonic_increasing
        assert summary.at[name, "steps"] == part["step"].max()
        assert summary.at[name, "stopped"] == "at its last step"


def test_a_run_ends_with_the_scorecard_and_where_the_report_is(finished):
    """Within 80 columns, and with every generator on a line of its own."""
    run = kedro_here(finished, "run", "--env", "test", "--nodes", "evaluation.summarise", COLUMNS="80")
    assert run.returncode == 0, run.stdout[-2000:]
    lines = run.stdout.rstrip().splitlines()
    table = lines[max(i for i, line in enumerate(lines) if line.startswith("landmarks against test")) :]
    assert max(map(len, table)) <= 80
    assert [line.split()[0] for line in table[-len(GENERATORS) - 1 : -1]] == list(GENERATORS)
    assert table[-1].startswith("smallest diff.")


def test_tags_choose_generators_which_kedros_runner_of_several_processes_scores_alike(finished, results, tmp_path):
    """`kedro run --tags vae,class_kde` fits, draws, reconstructs and scores these after the stages before, no others.

    The run of all other tests has one process; what both write is the same to the byte.
    """
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    names = ("class_kde", "vae")
    made = [copy / "data" / "test" / "08_reporting" / "scores" / f"{name}.csv" for name in names]
    for name, scores in zip(names, made, strict=True):
        scores.unlink()
        for folder in ("06_models", "07_model_output"):
            shutil.rmtree(copy / "data" / "test" / folder / name)
    tags = ("--tags", ",".join(names), "--runner", "ParallelRunner")
    with one_thread():
        run = kedro_here(copy, "run", "--env", "test", *tags)
    assert run.returncode == 0, run.stdout[-3000:]
    done = re.findall(r"Completed node: (\S+)", run.stdout)
    assert len(done) == 8
    for name, scores in zip(names, made, strict=True):
        assert [node for node in done if name in node] == [
            *(f"baselines.{name}.fit", f"baselines.{name}.draw"),
            *(f"reconstruction.reconstruct_{name}", f"evaluation.score_{name}"),
        ]
        assert scores.read_bytes() == (results / scores.relative_to(copy / "data" / "test")).read_bytes()


def test_a_killed_run_goes_on_where_it_was(finished, results):
    """What is missing is made again with all that depends on it; what is there is left alone."""
    scorecard = (results / "08_reporting" / "scorecard.csv").read_bytes()
    weights = results / "06_models" / "vae" / "run_1" / "tensors.safetensors"
    trained = weights.stat().st_mtime_ns
    parts = results / "07_model_output" / "vae" / "parts.json"
    assert parts.exists()
    parts.unlink()  # as if the run had been killed while transcriptomes were written
    (results / "08_reporting" / "report.html").unlink()
    run = kedro_here(finished, "run", "--env", "test", "--only-missing-outputs")
    assert run.returncode == 0, run.stdout[-2000:]
    done = set(re.findall(r"Completed node: (\S+)", run.stdout))
    assert "reconstruction.reconstruct_vae" in done
    assert "evaluation.report.write_report" in done
    assert not [name for name in done if ".fit" in name or ".draw" in name]
    assert weights.stat().st_mtime_ns == trained
    assert (results / "08_reporting" / "scorecard.csv").read_bytes() == scorecard


@pytest.fixture
def unfinished(finished, tmp_path):
    """A copy of it that lacks all that one generator made, and the scorecard."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    results = copy / "data" / "test"
    for name in ("06_models/vae", "07_model_output/vae"):
        shutil.rmtree(results / name)
    for name in ("scores/vae.csv", "scorecard.csv", "draws.csv"):
        (results / "08_reporting" / name).unlink()
    return copy


def all_files(project: Path) -> list[str]:
    return sorted(str(path.relative_to(project)) for path in (project / "data").rglob("*"))


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=project,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "COLUMNS": "2000"},
    )


def kill_at(lines: Iterable[str], words: str, seconds: float, kill: Callable[[], None]) -> None:
    """Kill a run so many seconds after it said the words."""
    for line in lines:
        if words in line:
            time.sleep(seconds)
            kill()
            break
    else:
        pytest.fail(f"the run never said {words!r}")
    for _ in lines:  # its processes end with it
        pass


def have_same_results(project: Path, finished: Path) -> None:
    card = Path("data/test/08_reporting/scorecard.csv")
    assert (project / card).read_bytes() == (finished / card).read_bytes()
    assert all_files(project) == all_files(finished)


def test_a_run_that_is_killed_goes_on_and_leaves_nothing_over(unfinished, finished, forkserver):
    to_scorecard = (*ONLY_MISSING, "--to-nodes", "evaluation.summarise")
    with kedro_started(forkserver, unfinished, *to_scorecard) as (run, lines):
        kill_at(lines, "fit_vae(", 0.3, lambda: os.killpg(run.pid, signal.SIGKILL))
    assert run.exitcode == -signal.SIGKILL
    # with workers, which end with it although the signal is for it alone
    run = start(unfinished, *to_scorecard, "--params", "workers=2")
    kill_at(run.stdout, "score_vae(", 0.3, run.terminate)
    assert run.wait() == -signal.SIGTERM
    with one_thread():
        run = kedro_here(unfinished, *to_scorecard)
    assert run.returncode == 0, run.stdout[-2000:]
    have_same_results(unfinished, finished)


def test_a_dask_cluster_that_loses_a_worker_makes_the_same_scorecard(unfinished, finished, monkeypatch, forkserver):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("distributed.process.get_mp_context", lambda: forkserver)
    monkeypatch.setattr("distributed.nanny.get_mp_context", lambda: forkserver)
    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids, killed = client.run(os.getpid), list[int]()

        def kill_the_first_that_trains() -> None:
            while not killed:
                time.sleep(0.05)
                for worker, keys in client.processing().items():
                    if any(".fit" in str(key) for key in keys):
                        time.sleep(0.3)
                        killed.append(pids[worker])
                        os.kill(pids[worker], signal.SIGKILL)
                        break

        threading.Thread(target=kill_the_first_that_trains, daemon=True).start()
        where = f"address={cluster.scheduler_address}"
        runner = ("--runner", "transcriptome_diffusion.runners.DaskRunner", "--runner-params", where)
        run = kedro_here(unfinished, *ONLY_MISSING, "--to-nodes", "evaluation.summarise", *runner)
    assert run.returncode == 0, run.stdout[-3000:]
    assert killed
    have_same_results(unfinished, finished)


def test_a_generator_that_diverges_stands_on_the_scorecard_with_the_reason(unfinished):
    run = kedro_here(
        unfinished, *ONLY_MISSING, "--params", "vae.training.learning_rate=0.9,vae.training.weight_decay=1e6"
    )
    assert run.returncode == 0, run.stdout[-3000:]
    card = pd.read_csv(unfinished / "data" / "test" / "08_reporting" / "scorecard.csv")
    row = card[card["generator"] == "vae"]
    assert row["mean"].isna().all()
    assert row["note"].str.contains("learning_rate").all()
    assert card.loc[card["generator"] == "ddim", "mean"].notna().any()
    assert "vae" in run.stdout.rpartition("landmarks against test")[2]


def test_a_generator_added_as_the_readme_says_stands_on_the_scorecard(project, finished, tmp_path, forkserver):
    """The three blocks of docs/generators.md, put where their first lines say, and nothing else."""
    page = (project / "docs" / "generators.md").read_text()
    section = page.partition("## Add your own generator")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\w+\n# ([\w./]+)[^\n]*\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 3
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    for place, text in blocks:
        target = copy / place
        with target.open("a") as file:
            file.write(text)
    # a marginal map would give genes the variance of the training profiles
    run = kedro_forked(
        forkserver,
        copy,
        *("run", "--env", "test", "--from-nodes", "baselines.mixing.fit", "--params", "mixing.marginal_map=false"),
        own_source=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    results = copy / "data" / "test"
    card = pd.read_csv(results / "08_reporting" / "scorecard.csv")
    row = card.query("generator == 'mixing' and space == 'landmarks' and reference == 'test'").set_index("metric")
    # averages of two profiles have half their variance, between the tissue's mean and the profiles
    assert 0.4 < row.at["spread", "mean"] < 0.9
    assert "mixing" in (results / "08_reporting" / "report.html").read_text()


class TestBadParameters:
    """A wrong parameter stops the run before its first node, and leaves nothing behind."""

    @pytest.mark.parametrize(
        ("parameter", "named"),
        [
            ("denoiser.network.widht=64", "widht"),
            ("denoiser.network.width=0", "width"),
            ("denoiser.network.width=-3", "width"),
            ("ddim.steps=0", "steps"),
            ("evaluation.draws=0", "draws"),
            ("vae.beta=-1", "beta"),
            ("wgan_gp.critic_stpes=3", "critic_stpes"),
            ("preset=tgca_paper", "`preset` is 'tgca_paper'; expected one of ['default', 'gtex_paper', 'tcga_paper']"),
        ],
    )
    def test_it_is_named(self, finished, parameter, named):
        run = kedro_here(finished, "run", "--env", "test", "--params", parameter)
        assert run.returncode != 0
        assert named in run.stdout
        assert "Running node" not in run.stdout

    def test_a_misspelt_environment_is_named(self, finished):
        run = kedro_here(finished, "run", "--env", "rnaseqbd")
        assert run.returncode != 0
        assert "rnaseqbd" in run.stdout

    def test_a_missing_cohort_folder_is_named(self, finished):
        run = kedro_here(finished, "run", "--env", "rnaseqdb", "--params", "rnaseqdb_dir=nowhere")
        assert run.returncode != 0
        assert "nowhere" in run.stdout
        assert not (finished / "data" / "rnaseqdb").exists()


def test_profiles_are_generated_on_request(finished, results):
    asked = "generation.generator=ddim,generation.profiles.tissue_1=5,generation.transcriptome=ridge_noise"
    run = kedro_here(finished, "run", "--env", "test", "--pipelines", "generation", "--params", asked)
    assert run.returncode == 0, run.stdout[-3000:]
    found = ad.read_h5ad(results / "07_model_output" / "generated" / "ddim.h5ad")
    assert found.obs["tissue"].tolist() == ["tissue_1"] * 5
    assert found.var_names.equals(ad.read_h5ad(results / "03_primary" / "expression_train.h5ad").var_names)

    run = kedro_here(
        finished, "run", "--env", "test", "--pipelines", "generation", "--params", "generation.profiles.lung=5"
    )
    assert run.returncode != 0
    assert "no tissue 'lung'; it knows tissue_1, tissue_2" in run.stdout


def test_the_cards_of_the_models_have_the_scores_of_the_run(results):
    card = pd.read_csv(results / "08_reporting" / "scorecard.csv").query("space == 'landmarks' and reference == 'test'")
    spread = card.query("metric == 'spread'").set_index("generator")["mean"]
    for folder, rows in {"denoiser": ("ddpm", "ddim"), "vae": ("vae",)}.items():
        text = (results / "06_models" / folder / "run_1" / "model_card.md").read_text()
        for row in ("real", *rows):
            assert f"{spread[row]:.3f}" in next(line for line in text.splitlines() if line.startswith(f"| {row} |"))


def test_listing_the_pipelines_answers(finished):
    run = kedro_here(finished, "registry", "list")
    assert run.returncode == 0
    assert "diffusion_training" in run.stdout


@pytest.fixture
def searched(finished):
    """The copy with a small space of the kernel density; it is left as it was found."""
    changed = finished / "conf" / "test" / "parameters_tuning.yml"
    changed.write_text(
        "tuning:\n  generators: [class_kde]\n  trials: 2\n  seeds: 1\n"
        "  spaces: {class_kde: {min_samples: {kind: int, low: 3, high: 30}}}\n"
    )
    yield
    changed.unlink()


def test_a_search_writes_settings_that_a_run_can_name(finished, results, searched):
    def run(*arguments):
        done = kedro_here(finished, "run", "--env", "test", *arguments)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    search = ("--pipelines", "tuning", "--nodes", "tuning.search_class_kde")
    assert "trial 1 complete" in run(*search)
    table = pd.read_csv(results / "08_reporting" / "tuning" / "class_kde.csv")
    assert table["state"].tolist() == ["complete"] * 2
    best = int(table.loc[table["value"].idxmax(), "min_samples"])
    found = results / "09_tuning" / "class_kde.yml"
    assert found.exists()

    named = ("--params", f"tuned={found}")
    said = run(*search, *named)  # with the tuned settings in force: the same study, which is complete
    assert "has 2 of 2 trials" in said
    assert "trial 2" not in said

    run("--nodes", "baselines.class_kde.fit,baselines.class_kde.draw", *named)
    drawn = ad.read_h5ad(results / "07_model_output" / "class_kde" / "landmark_profiles.h5ad")
    assert drawn.uns["generator"]["settings"]["min_samples"] == best


def test_the_study_takes_up_trainings_of_the_default_run_and_writes_its_tables_and_report(finished, results):
    weights = results / "06_models" / "denoiser" / "run_1" / "tensors.safetensors"
    trained = weights.read_bytes()
    run = kedro_here(
        finished, "run", "--pipelines", "study", "--env", "test", "--nodes", "diffusion_training.fit_denoiser"
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "run 1 of 2 was finished before" in run.stdout
    assert weights.read_bytes() == trained
    assert sorted(path.name for path in (results / "06_models" / "denoiser").glob("run_*")) == ["run_1", "run_2"]

    published = ("--params", "study.published=gtex")
    run = kedro_here(
        finished, "run", "--pipelines", "study", "--env", "test", "--namespaces", "evaluation.study", *published
    )
    assert run.returncode == 0, run.stdout[-3000:]
    tables = {path.stem: pd.read_csv(path) for path in (results / "08_reporting" / "study").glob("*.csv")}
    named = {"landmarks", "transcriptome", "reconstruction", "reverse_validation", "samplers", "cost"}
    assert set(tables) == {*named, "draws_ddpm", "draws_ddim", "draws_dpm_solver"}
    steps = tables["samplers"].dropna(subset="steps")
    assert {*zip(steps["generator"], steps["steps"], strict=True)} == {
        (n, s) for n in ("ddpm", "ddim", "dpm_solver") for s in (5, 10)
    }
    assert set(steps["runs"]) == {2}
    # at the steps of the default run, the first training has the scorecard's values
    keys = ["reference", "metric", "draw"]
    scorecard = pd.read_csv(results / "08_reporting" / "draws.csv").query("space == 'landmarks' and run == 1")
    for sampler in ("ddpm", "ddim"):
        ours = tables[f"draws_{sampler}"].query("run == 1 and steps == 10 and reference != 'none'")
        both = ours.merge(scorecard[scorecard["generator"] == sampler], on=keys, suffixes=("", "_of_scorecard"))
        assert len(both) == len(ours)
        np.testing.assert_allclose(both["value"], both["value_of_scorecard"])
    html = (results / "08_reporting" / "study.html").read_text()
    assert not re.search(r"""<(script|link)[^>]+(src|href)=["']https?://""", html)
    for text in ("paper 0.992", "The published values are of GTEx v8", "ddim, 10 steps", "ddim + mlp"):
        assert text in html
