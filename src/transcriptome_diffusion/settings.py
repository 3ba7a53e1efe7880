"""Kedro settings; see https://docs.kedro.org for what else may stand here."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

from transcriptome_diffusion.hooks import RunHooks


def choice(parameter: str, chosen: str, options: Any) -> Any:
    """``${choice:name, chosen, ${options}}``: the option that a parameter of the command line names.

    Raises:
        ValueError: naming the options, if it is none of them.
    """
    if chosen not in options:
        raise ValueError(f"`{parameter}` is {chosen!r}; expected one of {sorted(options)}.")
    return options[chosen]


def tuned(generator: str, path: str | None, settings: Any) -> Any:
    """``${tuned:vae, ${runtime_params:tuned, null}, ${settings}}``: settings, changed as a search's result says.

    Args:
        generator: whose settings they are.
        path: of a file as ``kedro run --pipelines tuning`` writes it, or of a folder of them; None changes nothing.
        settings: the generator's block of parameters.

    Raises:
        ValueError: naming the file, if there is none, it holds no known generator, or an option it sets is none.
    """
    import yaml
    from omegaconf import OmegaConf
    from pydantic import ValidationError

    from transcriptome_diffusion.generators.registry import trained_models

    if path is None:
        return settings
    place, models = Path(path), trained_models()
    files = sorted(place.glob("*.yml")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(
            f"`tuned` is {path}, found no such file, nor a folder with .yml files in it (looked at {place.resolve()}). "
            "Name a file that `kedro run --pipelines tuning` wrote."
        )
    for file in files:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        unknown = set(found) - set(models) if isinstance(found, dict) else {str(found)}
        if unknown:
            raise ValueError(f"{file} sets {sorted(unknown)}; expected settings of {sorted(models)}.")
        settings = OmegaConf.merge(settings, found.get(generator, {}))
        try:
            models[generator].options.model_validate(OmegaConf.to_container(settings, resolve=True))
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors()]
            raise ValueError(f"{file} does not fit the options of {generator}: {'; '.join(wrong)}.") from error
    return settings


CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"choice": choice, "tuned": tuned},
    # an environment changes single keys of a parameter block; catalog entries are replaced whole
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
HOOKS = (RunHooks(),)
# their statistics and events do not know runs in several processes
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)
