import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from transcriptome_diffusion.artefacts import (
    PREVIOUS,
    STAGING,
    ArtefactError,
    read_description,
    read_tensors,
    remove_leftovers,
    replaced_when_whole,
    write_model,
)
from transcriptome_diffusion.datasets import AnnDataDataset
from transcriptome_diffusion.training import CheckpointFile


def test_a_model_folder_comes_back_as_it_was_written(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array([1, 2], dtype=np.int64)}
    write_model(tmp_path / "model", {"kind": "test", "genes": ["TP53"]}, tensors)
    assert read_description(tmp_path / "model") == {"kind": "test", "genes": ["TP53"]}
    found = read_tensors(tmp_path / "model")
    for name, values in tensors.items():  # the transposed view, too, keeps its values
        np.testing.assert_array_equal(found[name], values)


def test_a_refused_save_leaves_the_old_model_and_nothing_beside_it(tmp_path):
    write_model(tmp_path / "model", {"version": 1}, {"a": np.ones(2)})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_model(tmp_path / "model", {"loss": float("nan")}, {"a": np.zeros(2)})
    with pytest.raises(Exception, match=r"dtype|object|type"):
        write_model(tmp_path / "model", {"version": 2}, {"a": np.array(["text"], dtype=object)})
    assert read_description(tmp_path / "model") == {"version": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_write_leaves_nothing_under_the_final_name(tmp_path):
    def interrupted():
        with replaced_when_whole(tmp_path / "profiles.h5ad") as staging:
            staging.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_whole(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale").write_text("old")
    write_model(tmp_path / "model", {}, {"a": np.ones(1)})
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "tensors.safetensors",
    ]


WRITE_AND_DIE = """
import os, pathlib, signal, sys
from transcriptome_diffusion.artefacts import replaced_when_whole
with replaced_when_whole(pathlib.Path(sys.argv[1])) as staging:
    staging.write_text("half")
    print("writing", flush=True)
    sys.stdin.read() or os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    final = tmp_path / "deep" / "profiles.h5ad"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_DIE, str(final)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout.readline() == b"writing\n"
    assert remove_leftovers([tmp_path]) == []
    writer.stdin.close()
    assert writer.wait() == -signal.SIGKILL
    (left,) = final.parent.iterdir()
    assert remove_leftovers([tmp_path]) == [left]
    assert list(final.parent.iterdir()) == []


def test_a_replacement_that_was_killed_half_way_is_brought_to_its_end(tmp_path):
    left = tmp_path / f".model-x{STAGING}"
    for folder, text in ((PREVIOUS, "old"), ("model", "new")):
        (left / folder).mkdir(parents=True)
        (left / folder / "model.json").write_text(text)
    assert remove_leftovers([tmp_path]) == []  # its owner may be about to take the lock
    os.utime(left, (0, 0))
    assert remove_leftovers([tmp_path]) == [left]
    assert (tmp_path / "model" / "model.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def said_by(call):
    """What ``call`` raises."""
    try:
        call()
    except (OSError, DatasetError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def write_text(final):
    with replaced_when_whole(final) as staging:
        staging.write_text("x" * 200_000)


WRITERS = {
    "text": write_text,
    "model": lambda final: write_model(final, {}, {"a": np.ones(50_000)}),
    "checkpoint": lambda final: CheckpointFile().save_checkpoint({"a": torch.ones(50_000)}, final),
    "profiles": lambda final: AnnDataDataset(filepath=str(final)).save(ad.AnnData(np.ones((500, 100), np.float32))),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_takes_no_more_is_named_with_the_remedy_whatever_writes(writer, tmp_path):
    """Each library reports it in another way; a limit on the size of files is as near as a test comes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        said = said_by(lambda: WRITERS[writer](tmp_path / "final"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{tmp_path}/final was not written: files of this size are not allowed. Nothing was left there" in said
    assert "set `data_root` in conf/<env>/globals.yml" in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nobody_may_write_to_is_named_with_the_remedy():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own cannot even be entered by another user
        Path(folder).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            said = said_by(lambda: write_text(Path(folder) / "scorecard.csv"))
        finally:
            if root:
                os.seteuid(0)
        Path(folder).chmod(0o755)
    assert f"{folder}/scorecard.csv was not written: writing there is not permitted." in said
    assert "set `data_root` in conf/<env>/globals.yml" in said


def test_a_missing_model_says_what_to_run(tmp_path):
    with pytest.raises(ArtefactError, match=r"no model at .*Run the pipeline that trains it"):
        read_description(tmp_path / "nowhere")


def test_broken_files_are_named(tmp_path):
    write_model(tmp_path / "model", {}, {"a": np.ones(100)})
    weights = tmp_path / "model" / "tensors.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(ArtefactError, match=r"cannot read the weights in .*tensors.safetensors"):
        read_tensors(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(ArtefactError, match=r"model.json is not valid JSON"):
        read_description(tmp_path / "model")
