"""``--config`` of the trainer's commands: a second file overlays the first."""

from typing import Any

from jsonargparse import ActionConfigFile, Namespace

from mvsplat.cli import config_files

LOSSES = "model.losses"

FOLLOWING = {
    "model.max_steps": "trainer.max_steps",
    "data.seed": "seed_everything",
    "trainer.default_root_dir": "run_dir",
}
"""Options that cannot be set, and those whose value they get."""


class ConfigFile(ActionConfigFile):
    """``--config``: a path or a shipped name; losses are overlaid one at a time."""

    def __call__(self, parser, cfg, values, option_string=None):
        parser.config_files.append(path := str(config_files.find(values)))
        before = _losses(cfg)
        super().__call__(parser, cfg, path, option_string)
        for option, source in FOLLOWING.items():
            # jsonargparse refuses them on the command line, but would drop a file's without a word.
            if cfg.get(option) is not None:
                parser.error(f'Linked "{option}" must be given via "{source}".')
        if (after := cfg.get(LOSSES)) is not None and before:
            cfg[LOSSES] = _overlay(before, _as_dict(after))


def _as_dict(value: Any) -> Any:
    return value.as_dict() if isinstance(value, Namespace) else value


def _losses(cfg: Namespace) -> dict[str, Any]:
    return {name: _as_dict(loss) for name, loss in (_as_dict(cfg.get(LOSSES)) or {}).items()}


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Losses of two files: a name in ``above`` is added, replaced, or changed in its arguments."""
    merged = dict(below)
    for name, loss in above.items():
        loss, under = _as_dict(loss), _as_dict(below.get(name))
        loss = {"class_path": loss} if isinstance(loss, str) else loss
        if (
            isinstance(loss, dict)
            and isinstance(under, dict)
            and _same_class(loss.get("class_path") or under["class_path"], under["class_path"])
        ):
            arguments = {**(under.get("init_args") or {}), **(loss.get("init_args") or {})}
            loss = {"class_path": under["class_path"], "init_args": arguments}
        merged[name] = loss
    return merged


def _same_class(path: str, other: str) -> bool:
    """Whether two class paths, either of which may be a short name, mean the same class."""
    if "." in path and "." in other:
        return path == other
    return path.rpartition(".")[2] == other.rpartition(".")[2]
