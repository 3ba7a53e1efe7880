"""The node of a search: run it, and write what it found as a file that a run can name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, get_type_hints

from transcriptome_diffusion.experiments.options import TuningOptions
from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.generators.registry import GeneratorSpec
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame

if TYPE_CHECKING:
    from transcriptome_diffusion.experiments.tuning import Found, Search

logger = logging.getLogger(__name__)


class SearchNode:
    """The function of a node that searches the settings of one generator.

    An object instead of a closure, so that a runner can send it to another process. Kedro reads its annotations to
    validate the generator's current settings.
    """

    def __init__(self, name: str, spec: GeneratorSpec) -> None:
        self.__name__, self.name, self.spec = f"search_{name}", name, spec
        self.__annotations__ = {**get_type_hints(SearchNode.__call__), "options": spec.options}

    def __call__(
        self,
        train: AnnData,
        validation: AnnData,
        options: Any,
        tuning: TuningOptions,
        evaluation: EvaluationOptions,
        sampling: SamplingOptions,
        *samplers: Any,
    ) -> tuple[dict[str, str], dict[str, DataFrame]]:
        """Files by the generator's name, for partitioned datasets: with no file, what is on disk stays as it is."""
        if not is_chosen(self.name, tuning):
            return {}, {}
        from transcriptome_diffusion.experiments.tuning import Search
        from transcriptome_diffusion.runners import each, parallel_calls

        if (model := self.spec.sampler) is not None:
            samplers = tuple(model.model_validate(sampler) for sampler in samplers)
        make = partial(
            Search,
            self.name,
            self.spec.load_class(),
            options,
            train,
            validation,
            tuning,
            evaluation,
            sampling,
            samplers,
        )
        search = make()
        each([partial(work, make)] * parallel_calls())
        if (found := search.found()) is None:
            return {}, {}
        cohort = f"{train.n_obs} training and {validation.n_obs} validation profiles"
        return {self.name: as_file(self.name, found, tuning, cohort)}, {self.name: found.table}


def work(make: Callable[[], Search]) -> None:
    """Try settings until a search has all its trials; any number of processes do so together."""
    make().run()


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
            "Run it without `--params preset=...`: it starts from the default settings."
        )
    return True


def as_file(name: str, found: Found, tuning: TuningOptions, cohort: str) -> str:
    """The settings found as YAML, with a comment that says where they come from and how to use them."""
    import yaml

    from transcriptome_diffusion.experiments.tuning import nested

    spread = f", s.d. {found.deviation:.4f} over {tuning.seeds} training seeds" if tuning.seeds > 1 else ""
    before = "" if found.first is None else f"; the settings before had {found.first:.4f}"
    header = [
        f"Written by `kedro run --pipelines tuning --nodes tuning.search_{name}` on {date.today()}.",
        "Use it with `kedro run --params tuned=<this file>`, or name the folder to use all files in it.",
        f"{cohort}; {found.trials} trials, {found.seconds:.0f} seconds, study {found.study}.",
        f"Objective `{tuning.objective}` on validation donors: {found.value:.4f}{spread}{before}.",
        "The best of many trials looks better than it is; the scorecard on held-out donors decides.",
    ]
    return "".join(f"# {line}\n" for line in header) + yaml.safe_dump({name: nested(found.settings)}, sort_keys=False)
