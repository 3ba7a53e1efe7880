"""Fitted models on disk: a folder with ``model.json`` and ``tensors.safetensors``, written whole or not at all.

Nothing here unpickles: JSON holds settings, gene lists and the training record, safetensors holds arrays.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

DESCRIPTION_FILE = "model.json"
TENSOR_FILE = "tensors.safetensors"
#: ends the names of the folders in which files and folders are written; their owner holds a lock on the file in them
STAGING, OWNER, PREVIOUS = ".partial", ".owner", ".previous"
#: seconds after which a folder without a lock is nobody's
YOUNG = 60.0

_UNWRITABLE: dict[int | None, str] = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files of this size are not allowed",
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.EROFS: "the disk is read-only",
}


class ArtefactError(ValueError):
    """A model folder is missing, incomplete or of another kind than asked for."""


@contextmanager
def replaced_when_whole(final: Path) -> Iterator[Path]:
    """Yield a staging path beside ``final`` that takes its place only if the block ends without an error.

    The block creates a file or a folder at the staging path. Whatever stood at ``final`` stays untouched
    until then; after an error nothing is left behind.

    Raises:
        OSError: if the disk is full or nothing may be written there, with what can be done about it.
    """
    final = Path(final)
    temporary: Path | None = None
    owner: IO[str] | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", suffix=STAGING, dir=final.parent))
        owner = (temporary / OWNER).open("w")
        _lock(owner)
        staging = temporary / final.name
        yield staging
        if final.is_dir():
            os.replace(final, temporary / PREVIOUS)
        os.replace(staging, final)
    except Exception as error:
        if (reason := _why_unwritable(error)) is None:
            raise
        raise OSError(
            f"{final} was not written: {reason}. Nothing was left there; set `data_root` in conf/<env>/globals.yml "
            "for results to go elsewhere."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if owner is not None:
            owner.close()


def _why_unwritable(error: BaseException | None) -> str | None:
    """What the system said of a file that could not be written, also where a library gives it as text only."""
    while error is not None:
        said = re.search(r"\b(?:errno =|os error) (\d+)", str(error))  # HDF5 and safetensors
        code = int(said[1]) if said else getattr(error, "errno", None)
        if code in _UNWRITABLE:
            return _UNWRITABLE[code]
        error = error.__context__  # torch raises an error of its own after that of the system
    return None


def _lock(file: IO[str]) -> bool | None:
    """Take the lock of a file; False if another process has it, None where the file system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def remove_leftovers(folders: Iterable[Path]) -> list[Path]:
    """Remove what processes left half-written below ``folders`` when they were killed.

    Folders in which a living process writes are known by its lock, on this machine or another, and stay. What was
    killed between taking the old folder away and putting the new, whole one there is brought to its end.

    Returns:
        The folders removed.
    """
    removed = []
    for top in folders:
        for place, names, _ in os.walk(top):
            for name in [name for name in names if name.startswith(".") and name.endswith(STAGING)]:
                names.remove(name)
                left = Path(place, name)
                if not _abandoned(left):
                    continue
                if (left / PREVIOUS).exists():
                    for whole in left.glob("[!.]*"):
                        if not (left.parent / whole.name).exists():
                            os.replace(whole, left.parent / whole.name)
                shutil.rmtree(left, ignore_errors=True)
                removed.append(left)
    return removed


def _abandoned(folder: Path) -> bool:
    """Whether nobody writes in a staging folder."""
    with suppress(OSError):
        if not (folder / OWNER).exists():  # it was killed, or is just about to take its lock
            return time.time() - folder.stat().st_mtime > YOUNG
        with (folder / OWNER).open("a") as owner:
            return bool(_lock(owner))
    return False


def write_model(
    folder: Path,
    description: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder; ``description`` must be plain JSON (no NaN), ``tensors`` numeric arrays.

    ``texts`` are further files by name, such as a model card.

    Raises:
        TypeError, ValueError: if the description is not JSON; the old folder then stays as it was.
    """
    from safetensors.numpy import save_file

    text = json.dumps(description, indent=2, allow_nan=False)
    with replaced_when_whole(folder) as staging:
        staging.mkdir()
        for name, content in {DESCRIPTION_FILE: text, **(texts or {})}.items():
            (staging / name).write_text(content, encoding="utf-8")
        # safetensors writes the buffer as it lies, so views have to be made contiguous first
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, staging / TENSOR_FILE)


def read_description(folder: Path) -> dict[str, Any]:
    """The JSON description of a model folder.

    Raises:
        ArtefactError: if the folder or its description is missing or is not JSON.
    """
    path = Path(folder) / DESCRIPTION_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtefactError(
            f"no model at {folder}: expected a folder with {DESCRIPTION_FILE} and {TENSOR_FILE}. "
            "Run the pipeline that trains it first."
        ) from error
    except ValueError as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}); train the model again.") from error


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a model folder.

    Raises:
        ArtefactError: if the file is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / TENSOR_FILE
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise ArtefactError(f"cannot read the weights in {path} ({error}); train the model again.") from error


def read_model(folder: Path, kind: str, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of a model folder that has to hold the model ``name`` of one ``kind``.

    Raises:
        ArtefactError: if the folder is missing, broken, or holds another model.
    """
    found = read_description(folder)
    if found.get("kind") != kind or found.get("name") != name:
        raise ArtefactError(f"{folder} holds {found.get('kind')} {found.get('name')!r}, expected {kind} {name!r}.")
    return found, read_tensors(folder)
