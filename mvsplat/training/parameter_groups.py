"""Parts of a model that learn at rates of their own."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

FACTOR = "factor"


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What an optimizer takes: the parameters that learn at one rate, together.

    Args:
        parameters: By their names.
        factors: Of the learning rate, by the beginning of parameters' names up to a dot or their
            end; the longest that fits counts.

    Returns:
        A group of the parameters that no factor is for, where there are any, then one for each
        factor; those that are frozen are left out.

    Raises:
        ValueError: No parameter has such a name, or a factor is negative.
    """
    groups: dict[str, list[nn.Parameter]] = {"": [], **{name: [] for name in factors}}
    named = list(parameters)
    for name, parameter in named:
        fitting = [part for part in factors if f"{name}.".startswith(f"{part}.")]
        groups[max(fitting, key=len, default="")].append(parameter)
    for part, factor in factors.items():
        if not groups[part]:
            raise ValueError(
                f"model.learning_rate_factors names {part!r}, but no parameter's name begins so; "
                f"they are {', '.join(_parts(named))} and what is in these"
            )
        if factor < 0:
            raise ValueError(
                f"model.learning_rate_factors: {part} has {factor}, expected 0 or more"
            )
    return [
        {"params": [p for p in found if p.requires_grad], FACTOR: factors.get(part, 1.0)}
        for part, found in groups.items()
        if found
    ]


def apply_factors(optimizer: Optimizer) -> Optimizer:
    """Multiply the rates that an optimizer of such groups was built with, before any schedule."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop(FACTOR)
    return optimizer


def _parts(named: list[tuple[str, nn.Parameter]]) -> list[str]:
    return sorted({".".join(name.split(".")[:2]) for name, _ in named})
