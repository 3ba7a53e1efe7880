"""Tables, texts and figures: Kedro's own dataset types, but that a file is written whole or not at all.

A run that is killed while it writes a table leaves the old one or none; half of one would pass for made.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets.pandas import CSVDataset as _CSVDataset
from kedro_datasets.plotly import JSONDataset as _JSONDataset
from kedro_datasets.text import TextDataset as _TextDataset

from transcriptome_diffusion.artefacts import replaced_when_whole


class _Whole:
    """Saves beside the final path first; on the local file system, and without versions, which have a path each."""

    _filepath: PurePosixPath
    _protocol: str
    _version: Any

    def save(self, data: Any) -> None:
        save: Any = super().save  # type: ignore[misc]
        if self._protocol != "file" or self._version:
            return save(data)
        final = self._filepath
        with replaced_when_whole(Path(final)) as staging:
            self._filepath = PurePosixPath(staging)
            try:
                save(data)
            finally:
                self._filepath = final


class CSVDataset(_Whole, _CSVDataset):
    """A table, see ``kedro_datasets.pandas.CSVDataset``."""


class JSONDataset(_Whole, _JSONDataset):
    """A figure, see ``kedro_datasets.plotly.JSONDataset``."""


class TextDataset(_Whole, _TextDataset):
    """A text, see ``kedro_datasets.text.TextDataset``."""
