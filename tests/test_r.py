"""The page on R: its commands and its blocks run, and R reads what was written."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from populations import SIZES, draw
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.runs import trainings

NEEDED = ("rhdf5", "DESeq2", "edgeR", "limma")
#: after the page's blocks: what R holds, for Python to compare
WRITE = """
write.csv(profiles, "profiles.csv")
write.csv(values, "values.csv")
write.csv(data.frame(labels = tissue), "labels.csv")
write.csv(data.frame(limma = limma_table[rownames(counts), "logFC"], deseq = deseq_table$log2FoldChange,
                     edger = edger_table$logFC, row.names = rownames(counts)), "changes.csv")
"""


@pytest.mark.slow
def test_the_blocks_of_the_page_on_r_read_what_was_written(project, tmp_path, monkeypatch):
    found = shutil.which("Rscript")
    if found is None:
        pytest.skip("SKIPPED FOR LACK OF R: install R with the packages " + ", ".join(NEEDED))
    packages = ", ".join(f"{name} = system.file(package = '{name}')" for name in NEEDED)
    missing = f"paths <- c({packages}); cat(names(paths)[!nzchar(paths)])"
    if lacking := subprocess.run([found, "-e", missing], text=True, capture_output=True, check=True).stdout.strip():
        pytest.skip(f"SKIPPED FOR LACK OF R PACKAGES: {lacking}")
    monkeypatch.chdir(tmp_path)
    train, validation = draw(SIZES, 0), draw(SIZES, 1)
    (tmp_path / "data" / "03_primary").mkdir(parents=True)
    train.write_h5ad("data/03_primary/expression_train.h5ad")
    for model in trainings(ClassGaussian, {"landmarks": (train, validation, ClassGaussianOptions())}, runs=1):
        model.save(tmp_path / "data" / "06_models" / "class_gaussian")

    page = (project / "docs" / "r.md").read_text()
    script = ""
    for language, block in re.findall(r"^```(r|bash)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        if language == "r":
            script += block
            continue
        assert " --total 200 " in block
        command = block.replace("\\\n", " ").replace("--total 200", "--total 60")  # DESeq2 takes most of the time
        run = CliRunner().invoke(cli, shlex.split(command)[1:])
        assert run.exit_code == 0, run.output
    done = subprocess.run([found, "-"], input=script + WRITE, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr

    written = ad.read_h5ad("new.h5ad")
    for name in ("profiles.csv", "values.csv"):
        read = pd.read_csv(name, index_col=0)
        assert [*read.index] == [*written.var_names]
        assert [*read.columns] == [*written.obs_names]
        np.testing.assert_allclose(read.to_numpy().T, written.X, atol=1e-4)
    assert [*pd.read_csv("labels.csv")["labels"]] == [*pd.read_csv("counts.csv.gz")["tissue"]]
    # all three find the difference of the means in the profiles
    first, second = written.obs["tissue"].cat.categories[:2]
    means = written.to_df().groupby(written.obs["tissue"], observed=True).mean()
    change = (means.loc[second] - means.loc[first]).rename("means")
    changes = pd.read_csv("changes.csv", index_col=0).join(change)
    correlations = changes.corr()["means"]
    assert correlations["limma"] > 0.999
    assert (correlations[["deseq", "edger"]] > 0.9).all(), correlations
