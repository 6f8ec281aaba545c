"""Objects that remember how they were constructed, so that a checkpoint can rebuild them."""

import inspect
from importlib import import_module
from typing import Any

CONFIG_KEY = "mvsplat"
"""Where a checkpoint keeps the parts' configurations: numbers, strings, lists and dicts."""

_PRIMITIVES = (bool, int, float, str, type(None))


class Configurable:
    """Records the arguments of its construction; a base of everything a YAML file can name."""

    def __new__(cls, *args: Any, **kwargs: Any):
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        bound = dict(list(signature.bind_partial(self, *args, **kwargs).arguments.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                bound |= bound.pop(name, {})
        # Straight into __dict__: torch modules refuse attributes before their own __init__.
        self.__dict__["_init_args"] = bound
        return self

    @property
    def config(self) -> dict[str, Any]:
        """``{"class_path": ..., "init_args": {...}}`` of primitives; TypeError for others."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        arguments = {
            name: to_primitives(value, f"{path}({name}=...)")
            for name, value in self.__dict__["_init_args"].items()
        }
        return {"class_path": path, "init_args": arguments}


def to_primitives(value: Any, where: str) -> Any:
    """Numbers, strings, lists and dicts that describe ``value``; Configurables become configs."""
    if isinstance(value, _PRIMITIVES):
        return value
    if isinstance(value, Configurable):
        return value.config
    if isinstance(value, dict):
        return {str(key): to_primitives(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_primitives(item, where) for item in value]
    if hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"{where}: a {type(value).__name__} cannot be stored in a checkpoint")


def from_config(config: dict[str, Any]) -> Any:
    """Build the object that ``Configurable.config`` describes.

    Raises:
        ValueError: The class cannot be imported, or does not take the arguments.
    """
    module, _, name = config["class_path"].rpartition(".")
    try:
        cls = getattr(import_module(module), name)
        # A checkpoint may come from anywhere: it can name our kind of class, never a function.
        if not (isinstance(cls, type) and issubclass(cls, Configurable)):
            raise TypeError("it is not a part of a model")
        arguments = {key: _build(item) for key, item in config["init_args"].items()}
        return cls(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot rebuild {config['class_path']}: {error}") from error


def _build(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"class_path", "init_args"}:
            return from_config(value)
        return {key: _build(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_build(item) for item in value]
    return value
