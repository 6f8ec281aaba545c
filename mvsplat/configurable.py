"""Objects that remember how they were constructed, so that a checkpoint can rebuild them."""

import inspect
from contextlib import suppress
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
        """``{"class_path": ..., "init_args": {...}}`` of primitives; TypeError for others.

        All arguments are in it, so that the object stays what it is when a default changes.
        """
        cls, given = type(self), self.__dict__["_init_args"]
        path = path_of(cls)
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL and name in given:
                raise TypeError(f"{path}(*{name}): only arguments given by name can be stored")
        arguments = {
            name: to_primitives(value, f"{path}({name}=...)") for name, value in given.items()
        }
        return {"class_path": path, "init_args": _defaults(cls) | arguments}


def path_of(cls: type) -> str:
    """Where a class is imported from: its shortest path, which stays when modules move."""
    packages = cls.__module__.split(".")
    for length in range(1, len(packages)):
        package = ".".join(packages[:length])
        if getattr(import_module(package), cls.__qualname__, None) is cls:
            return f"{package}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _defaults(cls: type) -> dict[str, Any]:
    """The defaults of a class's arguments, also of those that it hands on as ``**keywords``.

    One that is no primitive is left out: it cannot be stored, and is the same again without it.
    """
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        defaults = _defaults_handed_on(cls) | defaults
    stored = {}
    for name, value in defaults.items():
        with suppress(TypeError):
            stored[name] = to_primitives(value, name)
    return stored


def _defaults_handed_on(cls: type) -> dict[str, Any]:
    # jsonargparse reads in the source where keywords go, as it does for the command line.
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_class_arguments(cls, fail_untyped=False, sub_configs=False)
    return parser.get_defaults().as_dict()


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


def class_of(config: dict[str, Any]) -> type[Configurable]:
    """The class that a configuration names.

    Raises:
        ValueError: It cannot be imported, or is no part of a model.
    """
    module, _, name = config["class_path"].rpartition(".")
    if module.startswith("mvsplat."):
        # Ours may have moved since: they keep their public names.
        module = "mvsplat" if hasattr(import_module("mvsplat"), name) else module
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot rebuild {config['class_path']}: {error}") from error
    # A checkpoint may come from anywhere: it can name our kind of class, never a function.
    if not (isinstance(cls, type) and issubclass(cls, Configurable)):
        raise ValueError(f"cannot rebuild {config['class_path']}: it is not a part of a model")
    return cls


def same_class(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two configurations name the same class, by whichever paths."""
    return one["class_path"] == other["class_path"] or class_of(one) is class_of(other)


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with all arguments: one that it does not mention has its default.

    Checkpoints used to mention only what had been given, and name classes where they were then.

    Raises:
        ValueError: The class cannot be imported.
    """
    arguments = {name: _completed(value) for name, value in config["init_args"].items()}
    cls = class_of(config)
    return {"class_path": path_of(cls), "init_args": _defaults(cls) | arguments}


def _completed(value: Any) -> Any:
    if _is_config(value):
        return completed(value)
    if isinstance(value, dict):
        return {key: _completed(item) for key, item in value.items()}
    return [_completed(item) for item in value] if isinstance(value, list) else value


def from_config(config: dict[str, Any]) -> Any:
    """Build the object that ``Configurable.config`` describes.

    Raises:
        ValueError: The class cannot be imported, or does not take the arguments.
    """
    cls = class_of(config)
    try:
        return cls(**{key: _build(item) for key, item in config["init_args"].items()})
    except TypeError as error:
        raise ValueError(f"cannot rebuild {config['class_path']}: {error}") from error


def _build(value: Any) -> Any:
    if _is_config(value):
        return from_config(value)
    if isinstance(value, dict):
        return {key: _build(item) for key, item in value.items()}
    return [_build(item) for item in value] if isinstance(value, list) else value


def _is_config(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"class_path", "init_args"}
