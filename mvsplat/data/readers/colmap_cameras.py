"""COLMAP's camera models: which lens their parameters describe."""

import math
from collections.abc import Callable, Sequence

from mvsplat.data.readers.distortion import (
    Brown,
    Distortion,
    Division,
    FieldOfView,
    Fisheye,
    RadialTangentialPrism,
    Unified,
)
from mvsplat.data.readers.lens import Lens

Coefficients = tuple[float, ...]

# Name: number of focal lengths, number of distortion coefficients, the distortion. The order is
# that of COLMAP's numbers for the models.
_MODELS: dict[str, tuple[int, int, Callable[[Coefficients], Distortion | None]]] = {
    "SIMPLE_PINHOLE": (1, 0, lambda k: None),
    "PINHOLE": (2, 0, lambda k: None),
    "SIMPLE_RADIAL": (1, 1, lambda k: _brown(k)),
    "RADIAL": (1, 2, lambda k: _brown(k)),
    "OPENCV": (2, 4, lambda k: _brown(k[:2], tangential=k[2:])),
    "OPENCV_FISHEYE": (2, 4, lambda k: Fisheye(Brown(k))),
    "FULL_OPENCV": (2, 8, lambda k: _brown((*k[:2], k[4]), k[5:], k[2:4])),
    "FOV": (2, 1, lambda k: FieldOfView(k[0])),
    "SIMPLE_RADIAL_FISHEYE": (1, 1, lambda k: Fisheye(Brown(k))),
    "RADIAL_FISHEYE": (1, 2, lambda k: Fisheye(Brown(k))),
    "THIN_PRISM_FISHEYE": (
        2,
        8,
        lambda k: Fisheye(Brown((*k[:2], *k[4:6]), (), (k[2], k[3]), (k[6], k[7]))),
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        2,
        12,
        lambda k: Fisheye(RadialTangentialPrism(k[:6], (k[6], k[7]), (k[8], k[9], k[10], k[11]))),
    ),
    "SIMPLE_DIVISION": (1, 1, lambda k: Division(k[0])),
    "DIVISION": (2, 1, lambda k: Division(k[0])),
    "SIMPLE_FISHEYE": (1, 0, lambda k: Fisheye()),
    "FISHEYE": (2, 0, lambda k: Fisheye()),
    "EUCM": (2, 2, lambda k: Unified(k[0], k[1])),
}
MODEL_NAMES = tuple(_MODELS)


def parameter_count(model: str) -> int:
    """How many numbers a model has: focal lengths, principal point, distortion.

    Raises:
        ValueError: It is not one of ``MODEL_NAMES``.
    """
    if model not in _MODELS:
        raise ValueError(
            f"camera model {model[:50]!r} is not supported; {', '.join(MODEL_NAMES)} are"
        )
    focal, distortion, _ = _MODELS[model]
    return focal + 2 + distortion


def colmap_lens(model: str, size: tuple[int, int], parameters: Sequence[float]) -> Lens:
    """The lens of a COLMAP camera.

    Args:
        model: COLMAP's name of the model.
        size: Width and height in pixels.
        parameters: As COLMAP orders them.

    Raises:
        ValueError: There is no such model, it has another number of parameters, or a number makes
            no sense.
    """
    model = model.upper()
    count = parameter_count(model)
    if len(parameters) != count:
        raise ValueError(f"camera model {model} has {count} parameters, found {len(parameters)}")
    if not all(map(math.isfinite, parameters)):
        numbers = ", ".join(f"{number:g}" for number in parameters)
        raise ValueError(f"a parameter of camera model {model} is not finite: {numbers}")
    focals, _, distortion = _MODELS[model]
    cx, cy = parameters[focals : focals + 2]
    coefficients = tuple(parameters[focals + 2 :])
    focal = (parameters[0], parameters[focals - 1])
    return Lens.from_pixels(focal, (cx, cy), size, distortion(coefficients))


def _brown(
    radial: Coefficients, rational: Coefficients = (), tangential: Coefficients = (0.0, 0.0)
) -> Distortion | None:
    """Brown's distortion, or None where all coefficients are 0: then it is a pinhole."""
    if not any((*radial, *rational, *tangential)):
        return None
    return Brown(radial, rational, (tangential[0], tangential[1]))
