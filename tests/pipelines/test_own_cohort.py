"""A cohort of the user's own, brought in as the README shows it, through Kedro's command line."""

from __future__ import annotations

import re
import shlex

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

from command_line import copied, kedro_here
from transcriptome_diffusion.cohorts.readers import read_cohort


@pytest.fixture(scope="module")
def readme(project):
    return (project / "README.md").read_text().partition("## Your own cohort")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def copy(project, tmp_path_factory):
    """The project, with the files that the README names; Ensembl ids with versions, genes in rows."""
    copy = copied(project, tmp_path_factory.mktemp("own") / "project")
    cohort = read_cohort("simulated", None, {"samples": 160, "tissues": 3, "targets": 12})
    ids = cohort.var["ensembl_id"].where(
        cohort.var["ensembl_id"] != "", [f"ENSG9{i:010}" for i in range(cohort.n_vars)]
    )
    raw = copy / "data" / "01_raw" / "own"
    raw.mkdir(parents=True)
    values = pd.DataFrame(cohort.X.T.round(3), index=pd.Index(ids + ".7", name="gene"), columns=cohort.obs_names)
    values.to_csv(raw / "expression.csv.gz")
    table = pd.DataFrame({"id": cohort.obs_names, "organ": cohort.obs["tissue"].to_numpy()})
    table.assign(patient=cohort.obs["donor"].to_numpy(), centre="here").to_csv(raw / "samples.csv", index=False)
    return copy


def test_the_readme_shows_it_in_under_fifteen_lines_and_the_template_says_the_same(project, readme):
    blocks = re.findall(r"```\w+\n(.*?)```", readme, flags=re.DOTALL)
    assert sum(len(block.splitlines()) for block in blocks) < 15
    template = (project / "conf" / "own" / "catalog.yml").read_text()
    assert yaml.safe_load(template) == yaml.safe_load(blocks[0])


@pytest.mark.slow
def test_it_runs_exactly_as_the_readme_shows_it(project, readme, copy):
    places = re.findall(r"```yaml\n# ([\w./]+)\n(.*?)```", readme, flags=re.DOTALL)
    commands = re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL)
    assert [place for place, _ in places] == ["conf/own/catalog.yml"]
    assert len(commands) == 1
    for place, text in places:
        (copy / place).write_text(text)
    # trainings of a test's length; everything about the cohort stays as it is
    settings = yaml.safe_load((project / "conf" / "test" / "parameters.yml").read_text())
    settings.pop("ingestion")
    for block in settings.values():
        if "training" in block:
            block["training"].update(max_steps=5, validate_every=5)
    settings["evaluation"].update(draws=1, classifier={"hidden": [16], "epochs": 2, "seeds": [0]})
    (copy / "conf" / "own" / "parameters_small.yml").write_text(yaml.safe_dump(settings))
    for command in commands[0].splitlines():
        program, *arguments = shlex.split(command, comments=True)
        assert program == "kedro"
        run = kedro_here(copy, *arguments)
        assert run.returncode == 0, run.stdout[-3000:]
    results = copy / "data" / "own"
    train = ad.read_h5ad(results / "04_feature" / "landmarks_train.h5ad")
    assert train.n_vars == 978
    assert train.uns["unit"] == "log2(TPM + 1)"
    assert set(train.obs["study"]) == {"here"}
    assert set(pd.read_csv(results / "04_feature" / "gene_panel.csv")["matched_by"]) == {"ensembl_id"}
    raw = pd.read_csv(copy / "data" / "01_raw" / "own" / "expression.csv.gz", index_col=0)
    sample, gene = train.obs_names[0], train.var_names[0]
    assert train[sample, gene].X.item() == pytest.approx(np.log2(raw.at[f"{gene}.7", sample] + 1), rel=1e-5)
    assert "<html" in (results / "08_reporting" / "report.html").read_text()[:200]
    donors = [
        set(ad.read_h5ad(results / "04_feature" / f"landmarks_{split}.h5ad", backed="r").obs["donor"])
        for split in ("train", "validation", "test")
    ]
    assert not donors[0] & donors[1]
    assert not donors[0] & donors[2]
