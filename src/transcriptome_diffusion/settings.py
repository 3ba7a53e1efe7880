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


#: what ``scaled`` divides, and the width below which it leaves a layer
WIDTHS, EPOCHS, LEAST_WIDTH = {"width", "hidden"}, {"max_epochs", "epochs", "peak_step"}, 16


def scaled(preset: str, divisor: int, settings: Any) -> Any:
    """``${scaled:preset, divisor, ${settings}}``: a preset of the paper with all widths and epochs divided.

    So that its protocol runs on a laptop. No layer becomes narrower than ``LEAST_WIDTH``, unless it is so already, and
    nothing is trained for less than one epoch.

    Raises:
        ValueError: if the divisor is no whole number of 1 or more, or our own settings are to be divided.
    """
    from omegaconf import OmegaConf

    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise ValueError(f"`preset_scale` is {divisor!r}; expected a whole number, 1 for the size of the paper.")
    if divisor == 1:
        return settings
    if preset == "default":
        raise ValueError("`preset_scale` divides the paper's networks; choose `preset` as gtex_paper or tcga_paper.")

    def divided(name: str, value: Any) -> Any:
        if hasattr(value, "items"):
            return {key: divided(str(key), part) for key, part in value.items()}
        if name in WIDTHS and not isinstance(value, int):
            return [divided(name, width) for width in value]
        if name in WIDTHS:
            return max(value // divisor, min(value, LEAST_WIDTH))
        return max(value // divisor, 1) if name in EPOCHS and value is not None else value

    # as a node of OmegaConf, into which single keys of the command line are merged; they would replace a plain dict
    return OmegaConf.create(divided("", settings))


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
    "custom_resolvers": {"choice": choice, "scaled": scaled, "tuned": tuned},
    # an environment changes single keys of a parameter block; catalog entries are replaced whole
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
HOOKS = (RunHooks(),)
# their statistics and events do not know runs in several processes
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)
