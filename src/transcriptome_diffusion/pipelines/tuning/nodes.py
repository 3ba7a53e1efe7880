"""Nodes of the search: run it, and write what it found as a parameters file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transcriptome_diffusion.experiments.options import TuningOptions
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import Entry
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame

if TYPE_CHECKING:
    from transcriptome_diffusion.experiments.tuning import Found

logger = logging.getLogger(__name__)


def searching(name: str, entry: Entry) -> Callable[..., Any]:
    """The node that searches settings of one generator; its annotation lets Kedro validate the current ones.

    It returns files by name, for partitioned datasets: with no file, what is on disk stays as it is.
    """

    def search(
        train: AnnData,
        validation: AnnData,
        options: Any,
        tuning: TuningOptions,
        evaluation: EvaluationOptions,
        sampling: SamplingOptions,
        *samplers: Any,
    ) -> tuple[dict[str, str], dict[str, DataFrame]]:
        if not is_chosen(name, tuning):
            return {}, {}
        refuse_a_second_source(Path(tuning.parameters_folder), name)

        from transcriptome_diffusion.experiments.tuning import Search
        from transcriptome_diffusion.generators.registry import generator_class

        search = Search(
            name,
            generator_class(entry),
            options,
            train,
            validation,
            tuning,
            evaluation,
            sampling,
            [SamplerOptions.model_validate(sampler) for sampler in samplers],
        )
        found = search.run()
        if found is None:
            return {}, {}
        cohort = f"{train.n_obs} training and {validation.n_obs} validation profiles"
        text = as_parameters_file(name, found, tuning, cohort)
        return {tuned_file(Path(), name).stem: text}, {name: found.table}

    search.__annotations__["options"] = entry.options
    return search


def is_chosen(name: str, tuning: TuningOptions) -> bool:
    """Whether this run searches ``name``: it is listed in `tuning.generators`, or has a space and there is no list.

    Raises:
        ValueError: if it was chosen together with another preset than the default.
    """
    if name not in (tuning.spaces if tuning.generators is None else tuning.generators):
        why = "it has no space" if tuning.generators is None else "`tuning.generators` does not list it"
        logger.info("%s: not searched, since %s", name, why)
        return False
    if tuning.preset != "default":
        raise ValueError(
            f"the search is asked to change the preset {tuning.preset!r}, which is meant to stay as published. "
            "Run it without `--params preset=...`: it starts from the default settings and writes those."
        )
    return True


def tuned_file(folder: Path, name: str) -> Path:
    """Where the catalog entry ``tuned_{name}`` puts the settings."""
    return folder / f"parameters_tuned_{name}.yml"


def refuse_a_second_source(folder: Path, name: str) -> None:
    """Stop before a search whose result might be lost: Kedro merges the files of an environment in no fixed order.

    Raises:
        ValueError: if the folder is missing, or another parameters file in it sets ``name``.
    """
    import yaml

    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder.resolve()} for the tuned settings; run from the project's root, and let "
            "`environment` in globals.yml and `tuning.parameters_folder` name the environment of the run."
        )
    files = {*folder.rglob("parameters*"), *folder.rglob("parameters*/**/*")} - {tuned_file(folder, name)}
    for path in sorted(path for path in files if path.suffix in (".yml", ".yaml", ".json")):
        if name in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}):
            raise ValueError(
                f"{path} sets `{name}`, and so would {tuned_file(folder, name).name} after the search; which of two "
                f"files of one environment wins is left to chance. Move `{name}` out of {path.name}, into conf/base."
            )


def as_parameters_file(name: str, found: Found, tuning: TuningOptions, cohort: str) -> str:
    """The tuned settings as YAML; they change the default preset and leave every other one as it is."""
    import yaml

    from transcriptome_diffusion.experiments.tuning import nested

    environment = Path(tuning.parameters_folder).name
    command = f"kedro run --pipelines tuning --nodes tuning.search_{name}"
    spread = f", s.d. {found.deviation:.4f} over {tuning.seeds} training seeds" if tuning.seeds > 1 else ""
    before = "" if found.first is None else f"; the settings before had {found.first:.4f}"
    header = [
        f"Written by `{command}{'' if environment == 'local' else f' --env {environment}'}` on {date.today()}.",
        f"{cohort}; {found.trials} trials, {found.seconds:.0f} seconds, study {found.study}.",
        f"Objective `{tuning.objective}` on validation donors: {found.value:.4f}{spread}{before}.",
        "The best of many trials looks better than it is; the scorecard is the judge.",
    ]
    block = yaml.safe_dump({f"_{name}_tuned": {"default": nested(found.settings)}}, sort_keys=False)
    choice = f"{name}: ${{oc.select:_{name}_tuned.${{runtime_params:preset, ${{globals:preset}}}}, {{}}}}\n"
    return "".join(f"# {line}\n" for line in header) + block + "\n" + choice
