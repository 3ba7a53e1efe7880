"""The pipeline of the paper's protocol: what it reads, and the published values beside its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import pipelines as registered
from kedro.framework.startup import bootstrap_project

from transcriptome_diffusion.experiments.options import StudyOptions
from transcriptome_diffusion.experiments.paper_protocol import COLUMNS
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.metrics.options import PaperProtocolOptions
from transcriptome_diffusion.pipelines.paper_protocol.nodes import collect, score_real


def table(generator: str) -> pd.DataFrame:
    steps = 1000 if generator == "ddim" else None
    metrics = {"precision": "train", "correlation": "train", "density": "train", "accuracy": "test"}
    rows = [
        (generator, "landmarks", "none", "standard", steps, where, "paper", metric, 0.5, 0.1, 5, 100)
        for metric, where in metrics.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"steps": "Int64"})


@pytest.mark.parametrize(
    ("cohort", "generator", "expected"),
    [
        ("gtex", "vae", {"precision": 0.9944, "correlation": 0.9814, "accuracy": 0.9898}),
        ("gtex", "ddim", {"precision": 0.9888, "correlation": 0.9893, "accuracy": 0.9924}),
        ("tcga", "wgan_gp", {"precision": 0.9528, "correlation": 0.9845, "accuracy": 0.9222}),
    ],
)
def test_published_values_stand_beside_ours(cohort: str, generator: str, expected: dict[str, float]) -> None:
    found = collect(StudyOptions.model_validate({"published": cohort}), table(generator), table("class_kde"))
    assert len(found) == 8
    ours = found[found["generator"] == generator].set_index("metric")["published"]
    assert ours.dropna().to_dict() == pytest.approx(expected)
    assert found.loc[found["generator"] == "class_kde", "published"].isna().all()


def test_another_cohort_has_no_published_values() -> None:
    found = collect(StudyOptions(), table("vae"), table("ddim"))
    assert list(found.columns) == COLUMNS
    assert list(found["generator"].unique()) == ["vae", "ddim"]


def test_it_reads_trainings_and_real_profiles_and_makes_tables_alone(project) -> None:
    bootstrap_project(project)
    pipeline = dict(registered)["paper_protocol"]
    read = {name for name in pipeline.inputs() if not name.startswith("params:")}
    real = {f"{space}_{split}" for space in ("landmarks", "expression") for split in ("train", "validation", "test")}
    trained = {f"models_{model_name(name)}" for name in GENERATORS}
    assert read == real | trained
    assert pipeline.outputs() == {"paper_protocol"}


def test_the_published_errors_of_a_reconstruction_stand_beside_those_of_real_profiles() -> None:
    row = ("real", "transcriptome", "ols", "standard", None, "test", "paper", "mae_standardised", 0.2, 0.0, 1, 100)
    rows = pd.DataFrame([row], columns=COLUMNS).astype({"steps": "Int64"})
    found = collect(StudyOptions.model_validate({"published": "gtex"}), rows)
    assert found["published"].tolist() == [0.198]


def test_a_cohort_without_linear_values_has_no_rows_and_is_told_why(caplog: pytest.LogCaptureFixture) -> None:
    names = ["g1", "g2"]
    obs = pd.DataFrame({"tissue": ["lung", "liver"]}, index=["s1", "s2"])
    part = make_profiles(np.ones((2, 2)), obs, pd.DataFrame({"symbol": names}, index=names), "VST")
    options = PaperProtocolOptions()
    assert not len(score_real(part, part, part, part, part, part, {}, options))
    assert "the profiles are in 'VST'" in caplog.text


def test_in_the_study_it_waits_for_the_trainings(project) -> None:
    bootstrap_project(project)
    study = dict(registered)["study"]
    own = study.only_nodes_with_namespaces(["evaluation.study.paper_protocol"])
    scores = [node for node in own.nodes if node.name.rpartition(".")[2].removeprefix("score_") in GENERATORS]
    assert len(scores) == len(GENERATORS)
    models = {name for node in scores for name in node.inputs if "models_" in name}
    assert models <= (study - own).all_outputs()
    assert "paper_protocol" in study.nodes[-1].inputs or any(
        "paper_protocol" in node.inputs for node in study.nodes if node.name.endswith("study.write_report")
    )
