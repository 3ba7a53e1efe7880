"""What a stage says of its memory before it starts, and whether it is true."""

import gc
import inspect
import logging
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion import memory
from transcriptome_diffusion.cohorts.tables import OVERHEAD, VALUE, read_gct
from transcriptome_diffusion.expression.landmarks import load_panel
from transcriptome_diffusion.expression.options import IngestionOptions, SplitOptions
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.options import ClassGaussianOptions, DiffusionOptions, VAEOptions
from transcriptome_diffusion.generators.vae import VAE
from transcriptome_diffusion.memory import NotEnoughMemoryError, available_memory, require_memory
from transcriptome_diffusion.pipelines.ingestion.nodes import filter_genes, prepare_cohort, split_samples
from transcriptome_diffusion.reconstruction.linear import RidgeReconstructor
from transcriptome_diffusion.reconstruction.options import RidgeOptions

GB = 10**9


@pytest.fixture
def has(monkeypatch):
    """A function that sets what is available."""

    def has(available):
        monkeypatch.setattr(memory, "available_memory", lambda: available)

    return has


# ---------------------------------------------------------------------- what is said
def test_a_stage_that_does_not_fit_is_refused_with_numbers_and_advice(has):
    has(3 * GB)
    with pytest.raises(
        NotEnoughMemoryError, match=r"fitting needs about 8\.2 GB .* 3\.0 GB are available\. Drop genes"
    ):
        require_memory("fitting", 8.2 * GB, "Drop genes.")


@pytest.mark.parametrize(
    ("needed", "available", "level"),
    [(0.9, 8, None), (1.1, 8, logging.INFO), (3.4, 3, logging.WARNING), (0.5, 0.45, logging.WARNING)],
)
def test_large_stages_are_announced_and_tight_ones_warned_of(needed, available, level, has, caplog):
    has(available * GB)
    with caplog.at_level(logging.INFO):
        require_memory("fitting", needed * GB, "")
    assert [record.levelno for record in caplog.records] == ([level] if level else [])
    assert all(f"needs about {needed:.1f} GB of memory, {available:.1f} GB are" in m for m in caplog.messages)


def test_where_the_system_does_not_tell_nothing_is_refused(has, caplog):
    has(None)
    with caplog.at_level(logging.INFO):
        require_memory("fitting", 1e15, "")
    assert "not known" in caplog.text


# ---------------------------------------------------------------------- what is available
def system(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return available_memory(root)


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n"}


def test_the_kernels_estimate_counts_where_nothing_limits(tmp_path):
    assert system(tmp_path, MEMINFO) == 5000 * 1024


@pytest.mark.parametrize("limited", ["", "/user", "/user/job"])
def test_a_limit_of_version_2_on_the_group_or_above_it_counts(tmp_path, limited):
    groups = {f"sys/fs/cgroup{path}/memory.max": "max\n" for path in ("", "/user", "/user/job")}
    base = f"sys/fs/cgroup{limited}/memory."
    files = {base + "max": "1000000", base + "current": "700000\n", base + "stat": "anon 1\ninactive_file 200000\n"}
    assert system(tmp_path, MEMINFO | {"proc/self/cgroup": "0::/user/job\n"} | groups | files) == 500_000


def test_a_limit_of_version_1_in_a_container_that_shows_the_hosts_path_counts(tmp_path):
    base = "sys/fs/cgroup/memory/memory."
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n",
        base + "limit_in_bytes": "800000",
        base + "usage_in_bytes": "300000",
        base + "stat": "total_inactive_file 0\n",
    }
    assert system(tmp_path, MEMINFO | files) == 500_000


def test_without_proc_the_memory_of_the_machine_counts_and_without_either_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.__getitem__, raising=False)
    assert available_memory(tmp_path) == 40_960
    monkeypatch.delattr(os, "sysconf")
    assert available_memory(tmp_path) is None


# ---------------------------------------------------------------------- whether it is true
def cohort(n, genes, prefix, unit="log2(TPM + 1)", classes=6):
    rng = np.random.default_rng(len(prefix))
    kind = np.arange(n) % classes
    values = np.random.default_rng(9).normal(size=(classes, genes))[kind] + rng.standard_normal((n, genes)) + 6
    obs = pd.DataFrame({"tissue": kind.astype(str), "donor": [f"{prefix}{i // 2}" for i in range(n)]})
    obs["study"], obs.index = "GTEX", [f"{prefix}s{i}" for i in range(n)]
    var = pd.DataFrame({"symbol": "", "entrez_id": "", "ensembl_id": ""}, index=[f"g{i}" for i in range(genes)])
    return make_profiles(np.abs(values) * (30 if unit == "TPM" else 1), obs, var.assign(is_landmark=False), unit)


def announced(monkeypatch, stage, module):
    """What ``stage`` asks for in ``module``; it does not start."""

    def note(_, needed, advice):
        assert advice.endswith(".")
        raise NotEnoughMemoryError(needed)

    with monkeypatch.context() as patch:
        patch.setattr(f"transcriptome_diffusion.{module}.require_memory", note)
        with pytest.raises(NotEnoughMemoryError) as found:
            stage()
    return found.value.args[0]


def peak(stage):
    """Bytes that ``stage`` holds at most beyond what is there, as Python and NumPy count them."""
    gc.collect()
    tracemalloc.start()
    try:
        stage()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident():
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


def quick(options):
    """One step of training; the memory of the marginal map is that of class_gaussian."""
    model = options(seed=0, conditions=["tissue"], marginal_map=False)
    return model.model_copy(update={"training": model.training.model_copy(update={"max_steps": 1})})


FITS = {
    "class_gaussian": (ClassGaussian, lambda: ClassGaussianOptions(seed=0, conditions=["tissue"])),
    "vae": (VAE, lambda: quick(VAEOptions)),
    "denoiser": (Diffusion, lambda: quick(DiffusionOptions)),
}


@pytest.mark.parametrize("name", FITS)
def test_a_generator_takes_what_it_says(name, monkeypatch):
    generator, options = FITS[name]
    small = cohort(40, 30, "a"), cohort(20, 30, "bb")
    generator.fit(*small, options())  # imports
    n = 800 if name == "class_gaussian" else 250
    train, validation = cohort(n, 1500, "a"), cohort(60, 1500, "bb")

    def fit():
        generator.fit(train, validation, options())

    assert peak(fit) == pytest.approx(announced(monkeypatch, fit, "generators.base"), rel=0.3)


def test_a_reconstruction_takes_what_it_says(monkeypatch):
    options = RidgeOptions()
    train, validation = cohort(800, 2000, "a", classes=12), cohort(160, 2000, "bb", classes=12)
    pairs = [(part[:, :300].copy(), part) for part in (train, validation)]
    model = RidgeReconstructor.fit(pairs[0][0][:200], train[:200], *pairs[1], options)

    def fit():
        RidgeReconstructor.fit(*pairs[0], *pairs[1], options)

    def rebuild():
        model.reconstruct(pairs[0][0], noise_seed=0)

    for stage in (fit, rebuild):
        assert peak(stage) == pytest.approx(announced(monkeypatch, stage, "reconstruction.base"), rel=0.3)


def test_the_ingestion_takes_what_it_says(monkeypatch):
    raw = cohort(3000, 8000, "a", "TPM")
    options = IngestionOptions.model_validate({"min_samples_per_tissue": 10, "unit_check": "warn"})
    panel = load_panel()
    prepared = prepare_cohort(raw[:200].copy(), options)
    table, _ = split_samples(prepared, SplitOptions())  # imports
    filter_genes(prepared, table, panel, options)
    kept = {}

    def prepare():
        kept["prepared"] = prepare_cohort(raw, options)

    assert peak(prepare) == pytest.approx(announced(monkeypatch, prepare, "memory"), rel=0.3)
    table, _ = split_samples(kept["prepared"], SplitOptions())

    def keep_genes():
        filter_genes(kept["prepared"], table, panel, options)

    assert peak(keep_genes) == pytest.approx(announced(monkeypatch, keep_genes, "memory"), rel=0.3)


def test_a_matrix_takes_what_the_reader_says(tmp_path, monkeypatch):
    genes, samples = 1000, 20_000
    path = tmp_path / "matrix.gct"
    row = "\t".join(f"{x:.1f}" for x in np.random.default_rng(0).gamma(1, 20, samples))
    header = f"#1.2\n{genes}\t{samples}\nName\tDescription\t" + "\t".join(f"s{i}" for i in range(samples)) + "\n"
    path.write_text(header + "".join(f"g{i}\td\t{row}\n" for i in range(genes)))
    needed = announced(monkeypatch, lambda: read_gct(path), "cohorts.tables")
    assert needed == OVERHEAD + VALUE * genes * samples
    # in a process of its own, as the threads that parse do not survive a fork
    small = tmp_path / "small.gct"
    small.write_text("#1.2\n1\t1\nName\tDescription\ts\ng\td\t1\n")
    script = (
        f"from transcriptome_diffusion.cohorts.tables import read_gct\nread_gct({str(small)!r})\n"
        f"{inspect.getsource(resident)}\nbefore = resident()\nread_gct({str(path)!r})\nprint(resident() - before)"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(found) == pytest.approx(needed, rel=0.3)
    # a reader that keeps some of the genes asks for those alone, or, where it cannot tell how many, for none
    some = announced(monkeypatch, lambda: read_gct(path, keep=bool, most_genes=300), "cohorts.tables")
    assert some == OVERHEAD + VALUE * 300 * samples
    assert read_gct(path, keep=lambda gene: gene == "g7").values.shape == (samples, 1)
