import json

import numpy as np
import pytest

from transcriptome_diffusion.artefacts import (
    ArtefactError,
    read_description,
    read_tensors,
    replaced_when_whole,
    write_model,
)


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
