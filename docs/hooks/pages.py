"""Pages that are generated from the code: every metric, every parameter; and pages that are there or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from transcriptome_diffusion.cohorts.options import DownloadOptions
from transcriptome_diffusion.cohorts.readers import READERS
from transcriptome_diffusion.experiments.options import AugmentationOptions, StudyOptions, TuningOptions
from transcriptome_diffusion.expression.options import IngestionOptions, LandmarkOptions, SplitOptions
from transcriptome_diffusion.generators.options import GenerationOptions, SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.privacy_options import PrivateModelOptions
from transcriptome_diffusion.generators.registry import GENERATORS, trained_models
from transcriptome_diffusion.metrics.options import EvaluationOptions, PaperProtocolOptions
from transcriptome_diffusion.metrics.registry import METRICS, Metric
from transcriptome_diffusion.reconstruction.registry import RECONSTRUCTORS

#: blocks of parameters by name, beside those of generators, samplers and reconstructors
BLOCKS: dict[str, type[BaseModel]] = {
    "ingestion": IngestionOptions,
    "split": SplitOptions,
    "landmarks": LandmarkOptions,
    "sampling": SamplingOptions,
    "dpm_solver": SamplerOptions,
    "evaluation": EvaluationOptions,
    "generation": GenerationOptions,
    "tuning": TuningOptions,
    "augmentation": AugmentationOptions,
    "study": StudyOptions,
    "paper_protocol": PaperProtocolOptions,
    "privacy": PrivateModelOptions,
    "download": DownloadOptions,
}
#: files of `conf/base` whose settings are single values, explained by their comments
WHOLE_RUN = ("globals.yml", "parameters_run.yml", "parameters_training.yml")
#: pages that get a place in the navigation if they are there
OPTIONAL = {"which_file.md": "Which file do I have?", "paper.md": "The paper, figure by figure"}


def metrics_page() -> str:
    """Every metric by group: what it is, range, ideal, limits, source."""
    lines = [
        "# Every metric",
        "Generated from the registry of metrics. *Null* is the value expected of two samples of one population; where "
        "it is open, compare with the rows `real` and `expected`. [Read the scorecard](scorecard.md) explains rows and "
        "columns.",
    ]
    groups: dict[str, dict[str, list[Metric]]] = {}
    for metric in METRICS.values():
        groups.setdefault(metric.group, {}).setdefault(metric.topic, []).append(metric)
    for group, topics in groups.items():
        lines.append(f"## {group}")
        for metrics in topics.values():
            first = metrics[0]
            where = f"computed on {' and '.join(first.spaces)}, against {' and '.join(first.references)}"
            facts = {
                "Values": first.values,
                "What fools it": first.limits,
                "Range": f"{_number(first.low)} to {_number(first.high)}; **ideal** {_number(first.ideal)}; **null** "
                f"{_number(first.null)}; {where}.",
                "Source": first.citation,
                "Function": first.path and f"`metrics/{first.path.replace(':', '.py, ')}`",
            }
            lines += [
                "### " + ", ".join(f"`{metric.name}`" for metric in metrics),
                first.what,
                "\n".join(f"- **{name}** {text}" for name, text in facts.items() if text),
            ]
    return "\n\n".join(lines) + "\n"


def _number(value: float) -> str:
    return (
        "open" if value != value else "∞" if value == float("inf") else "-∞" if value == -float("inf") else f"{value:g}"
    )


def parameters_page(conf: Path = Path("conf")) -> str:
    """Every parameter by block: type, default, meaning; those of a whole run from the comments in ``conf``."""
    blocks = dict(BLOCKS)
    blocks |= {name: spec.options for name, spec in trained_models().items()}
    blocks |= {name: spec.sampler for name, spec in GENERATORS.items() if spec.sampler}
    blocks |= {f"reconstruction_{name}": spec.options for name, spec in RECONSTRUCTORS.items()}
    lines = [
        "# Parameters",
        "Generated from the models that check them. Values stand in `conf/base/parameters_*.yml`; an environment "
        "(`--env`) or the command line (`--params block.name=value`) changes single ones. A misspelt name stops the "
        "run before it starts.",
        "## Of a whole run",
        "Those of `globals.yml` are shared by catalog and parameters. An environment changes them; `--params` takes "
        "`preset`, `preset_scale` and all below them.",
        "| name | default | meaning |\n|---|---|---|\n" + "\n".join(_commented(conf)),
        *(part for name, model in blocks.items() for part in _block(name, model)),
        "## Options of cohort readers",
        "In the catalog, under `options` of `raw_cohort`.",
        *(
            part
            for name, reader in READERS.items()
            if name != "none"
            for part in _block(name, reader.options, level="###")
        ),
    ]
    return "\n\n".join(lines) + "\n"


def _commented(conf: Path) -> Iterator[str]:
    for file in WHOLE_RUN:
        above: list[str] = []
        for line in (conf / "base" / file).read_text().splitlines():
            if line.startswith("#"):
                above.append(line.strip("# "))
                continue
            if (found := re.match(r"([a-z]\w*): (.*?)(?:\s+# (.*))?$", line)) and "globals:" not in found[2]:
                yield f"| `{found[1]}` | `{found[2]}` | {found[3] or ' '.join(above)} |"
            above = []


def _block(name: str, model: type[BaseModel], level: str = "##") -> Iterator[str]:
    yield f"{level} `{name}`"
    yield " ".join((model.__doc__ or "").split("\n\n")[0].split())
    rows = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in _fields(model))
    if rows:
        yield f"| name | type | default | meaning |\n|---|---|---|---|\n{rows}"


def _fields(model: type[BaseModel], prefix: str = "", own: Any = None) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        default = getattr(own, name) if own is not None else field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _fields(type(default), f"{prefix}{name}.", default)
            continue
        shown = "required" if default is PydanticUndefined else "null" if default is None else str(default)
        yield f"`{prefix}{name}`", f"`{_type(field.annotation)}`", f"`{shown}`", field.description or ""


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and "[" not in str(annotation) else str(annotation)
    text = re.sub(r"typing\.|annotated_types\.|transcriptome_diffusion[\w.]*\.", "", text)
    text = re.sub(r"Annotated\[(\w+), [^\]]*\]+", r"\1", text)
    return (
        text.replace(" | ", " or ").replace("Literal[", "one of [").replace("NoneType", "null").replace("None", "null")
    )


# ------------------------------------------------------------------------------------- what MkDocs calls
def on_config(config: Any) -> Any:
    """Put optional pages into the navigation."""
    there = [{title: page} for page, title in OPTIONAL.items() if (Path(config.docs_dir) / page).exists()]
    for section in config.nav:
        if "Use" in section:
            section["Use"] += there
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for name, content in (
        ("metrics.md", metrics_page()),
        ("parameters.md", parameters_page(Path(config.config_file_path).parent / "conf")),
    ):
        files.append(File.generated(config, name, content=content))
    return files
