"""Node of the download."""

from __future__ import annotations

import logging

from transcriptome_diffusion.cohorts.options import DownloadOptions

logger = logging.getLogger(__name__)


def fetch(options: DownloadOptions) -> None:
    """Fetch the files that `download.files` lists, if any."""
    if not options.files:
        logger.warning(
            "This environment has nothing to fetch: `download.files` is empty. Published cohorts have environments of "
            "their own, for instance `kedro run --pipelines download --env gtex`."
        )
        return
    from transcriptome_diffusion.cohorts.download import download

    paths = download(options)
    logger.info("All %d files are there: %s", len(paths), paths[0].parent.resolve())
