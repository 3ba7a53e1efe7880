"""Files in any storage that fsspec knows (S3, GCS, Azure, HTTP, ...); they are copied to the local disk to be read.

HDF5 and the readers of cohorts jump about in their files, which is slow over a network and fails where a connection
drops; so a file is fetched whole into a temporary folder, which goes when it is read.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

#: what a protocol needs, where its message would not say how the package is called
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


def is_remote(path: str | Path) -> bool:
    """Whether a path names its storage, as ``s3://bucket/cohort.h5ad`` does."""
    protocol, separator, _ = str(path).partition("://")
    return bool(separator) and protocol not in ("file", "local")


class Storage:
    """One place in a remote storage.

    Args:
        url: of a file or a folder, with its protocol.
        credentials: keys of the storage, as in ``conf/local/credentials.yml``.
        fs_args: further arguments of its fsspec file system.
    """

    def __init__(
        self, url: str, credentials: Mapping[str, Any] | None = None, fs_args: Mapping[str, Any] | None = None
    ) -> None:
        self.protocol, _, self.path = url.partition("://")
        self._arguments = {**(credentials or {}), **(fs_args or {})}

    @cached_property
    def filesystem(self) -> Any:
        """The file system.

        Raises:
            ModuleNotFoundError: if the package for the protocol is not installed. ValueError: if there is none.
        """
        import fsspec

        try:
            return fsspec.filesystem(self.protocol, **self._arguments)
        except ImportError as error:
            package = PACKAGES.get(self.protocol)
            mend = f"pip install {package}" if package else str(error)
            raise ModuleNotFoundError(
                f"{self.url()} needs a package for {self.protocol}:// that is not installed: {mend}"
            ) from error

    def url(self, path: object = None) -> str:
        """The whole address of a path in this storage, by default of the place itself."""
        return f"{self.protocol}://{self.path if path is None else path}"

    def exists(self, path: object = None) -> bool:
        return bool(self.filesystem.exists(self.url(path)))

    def glob(self, pattern: str) -> list[str]:
        return list(self.filesystem.glob(self.url(pattern)))

    @contextmanager
    def fetched(self, path: object = None) -> Iterator[Path]:
        """A local copy of a file.

        Raises:
            FileNotFoundError: if there is none.
        """
        with tempfile.TemporaryDirectory(prefix="fetched-") as folder:
            yield self._get(self.url(path), Path(folder))

    @contextmanager
    def fetched_with(self, beside: Sequence[str] | None) -> Iterator[Path]:
        """A local copy of this file with files ``beside`` it; of None, or of a folder, everything there is.

        Raises:
            FileNotFoundError: if there is neither file nor folder.
        """
        is_file = self.filesystem.isfile(self.url())
        parent, _, name = self.url().rpartition("/")
        with tempfile.TemporaryDirectory(prefix="fetched-") as temporary:
            folder = Path(temporary)
            if is_file and beside is not None:
                for other in beside:
                    if self.filesystem.isfile(f"{parent}/{other}"):
                        self._get(f"{parent}/{other}", folder / Path(other).parent)
                yield self._get(self.url(), folder)
                return
            root = parent if is_file else self.url().rstrip("/")
            stem = self.filesystem._strip_protocol(root).rstrip("/")
            for found in self.filesystem.find(root):
                self._get(self.url(found.lstrip("/")), folder / Path(found.removeprefix(stem).lstrip("/")).parent)
            if not any(folder.iterdir()):
                raise FileNotFoundError(f"{self.url()} does not exist, or is an empty folder.")
            yield folder / name if is_file else folder

    def _get(self, url: str, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        local = folder / url.rpartition("/")[2]
        logger.info("Fetching %s", url)
        self.filesystem.get_file(url, str(local))
        return local

    def put(self, local: Path, path: object = None) -> None:
        """Copy a local file there; object stores show it once it is whole."""
        url = self.url(path)
        self.filesystem.makedirs(url.rpartition("/")[0], exist_ok=True)
        self.filesystem.put_file(str(local), url)
