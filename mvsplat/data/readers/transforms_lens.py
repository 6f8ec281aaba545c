"""The lens of a frame of transforms.json, whatever names its camera model and coefficients have.

Names of models are nerfstudio's, COLMAP's, and those of RealityScan, Metashape and ROS where they
mean the same. Coefficients are OpenCV's, but for ``k4`` of perspective cameras: alone, it is
nerfstudio's fourth radial term, for which OpenCV has no name; with ``k5`` or ``k6``, or where the
model says so, k4 to k6 are OpenCV's denominator.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

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

_PERSPECTIVE = (
    "PERSPECTIVE PINHOLE SIMPLE_PINHOLE OPENCV RADIAL SIMPLE_RADIAL FRAME BROWN BROWN_CONRADY "
    "BROWN3 BROWN3_WITH_TANGENTIAL2 RADTAN RADIAL_TANGENTIAL PLUMB_BOB"
).split()
# Here the name says that k4 is a fourth radial term.
_FOUR_RADIAL = ["BROWN4", "BROWN4_WITH_TANGENTIAL2"]
_RATIONAL = ["FULL_OPENCV", "OPENCV_FULL", "RATIONAL", "RATIONAL_POLYNOMIAL"]
_FISHEYE = (
    "OPENCV_FISHEYE FISHEYE SIMPLE_FISHEYE RADIAL_FISHEYE SIMPLE_RADIAL_FISHEYE EQUIDISTANT "
    "EQUIDISTANT_FISHEYE KANNALA_BRANDT KANNALA_BRANDT4"
).split()
_PRISM = ["THIN_PRISM_FISHEYE"]
_FISHEYE_624 = ["FISHEYE624", "RAD_TAN_THIN_PRISM_FISHEYE"]
_DIVISION = ["DIVISION", "SIMPLE_DIVISION"]
# What looks like a coefficient of some model.
_COEFFICIENT = re.compile("(k|k[0-9]|p[0-9]|s[0-9]|s[xy][0-9]|b[12]|tau_?[xy]|omega|xi|alpha|beta)")

Note = Callable[[str], None]


def frame_size(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """A frame's width and height, where the file says them.

    Raises:
        ValueError: They are no size.
    """
    width, height = number(fields, "w"), number(fields, "h")
    if width is None or height is None:
        return None
    if not (1 <= width <= 1e6 and 1 <= height <= 1e6):
        raise ValueError(f"w and h are {width:g} and {height:g}, expected a picture's size")
    return round(width), round(height)


def frame_lens(fields: Mapping[str, Any], size: tuple[int, int], note: Note) -> Lens:
    """The lens of a frame.

    Args:
        fields: The frame's own, and the file's.
        size: The size of the pictures that the numbers are of.
        note: Is told what was not certain, or not used.

    Raises:
        ValueError: A number makes no sense, or the camera model is not known.
    """
    fx = _focal(fields, "fl_x", "camera_angle_x", size[0])
    fy = _focal(fields, "fl_y", "camera_angle_y", size[1])
    fx, fy = fx or fy, fy or fx  # square pixels where one is missing
    if fx is None or fy is None:
        raise ValueError("it has neither fl_x nor camera_angle_x, of its own or of the whole file")
    cx, cy = number(fields, "cx", size[0] / 2), number(fields, "cy", size[1] / 2)
    assert cx is not None and cy is not None  # they have defaults
    return Lens.from_pixels((fx, fy), (cx, cy), size, _distortion(fields, note))


def number(fields: Mapping[str, Any], name: str, default: float | None = None) -> float | None:
    """A field that is a finite number, or null or not there.

    Raises:
        ValueError: It is anything else; names it.
    """
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is {str(value)[:50]!r}, expected a number")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{name} is not finite")
    return value


def _focal(fields: Mapping[str, Any], focal: str, angle: str, pixels: int) -> float | None:
    """A focal length in pixels, given as such or as the angle that the picture spans."""
    length = number(fields, focal)
    if length is not None:
        if length <= 0:
            raise ValueError(f"{focal} is {length:g}; a focal length must be positive")
        return length
    wide = number(fields, angle)
    if wide is None:
        return None
    if not 0 < wide < math.pi:
        raise ValueError(f"{angle} is {wide:g}, expected an angle between 0 and pi")
    return pixels / 2 / math.tan(wide / 2)


def _distortion(fields: Mapping[str, Any], note: Note) -> Distortion | None:
    model = _model(fields)
    coefficients = _Coefficients(fields, model)
    distortion = _MODELS[model](coefficients, note)
    if unused := coefficients.unused():
        note(
            f"camera model {model} has no {', '.join(unused)}, which the file gives; they are not "
            "used"
        )
    return distortion


def _model(fields: Mapping[str, Any]) -> str:
    """The camera model's name, in one spelling."""
    given = fields.get("camera_model")
    model = "OPENCV"
    if given is not None:
        model = re.sub(r"[\s-]+", "_", given.strip()).upper() if isinstance(given, str) else ""
        if model not in _MODELS:
            known = ", ".join(sorted(_MODELS))
            raise ValueError(f"camera_model is {str(given)[:50]!r}, expected one of {known}")
    flat = model in [*_PERSPECTIVE, *_FOUR_RADIAL, *_RATIONAL]
    return "OPENCV_FISHEYE" if fields.get("is_fisheye") and flat else model


class _Coefficients:
    """A frame's distortion coefficients; remembers which ones were asked for."""

    def __init__(self, fields: Mapping[str, Any], model: str) -> None:
        self.fields = fields
        self.model = model
        self._used: set[str] = set()
        listed = fields.get("distortion_params")
        names: tuple[str, ...] = ("k1", "k2", "k3", "k4", "p1", "p2")
        if model in _FISHEYE_624:
            names = (*(f"k{i}" for i in range(1, 7)), "p1", "p2", *(f"s{i}" for i in range(1, 5)))
        if isinstance(listed, list) and len(listed) == len(names):  # nerfstudio's other spelling
            self.fields = {**dict(zip(names, listed, strict=True)), **fields}
        elif listed:
            raise ValueError(
                f"distortion_params is {str(listed)[:80]}, expected {', '.join(names)}"
            )

    def __call__(self, *names: str) -> tuple[float, ...]:
        """Coefficients, 0 where there are none."""
        self._used.update(names)
        return tuple(number(self.fields, name) or 0.0 for name in names)

    def needed(self, *names: str) -> float:
        """A coefficient without which the model says nothing, under one of its names."""
        self._used.update(names)
        values = [number(self.fields, name) for name in names]
        known = [value for value in values if value is not None]
        if not known:
            raise ValueError(f"camera_model {self.model} needs {names[0]}, which is missing")
        return known[0]

    def unused(self) -> list[str]:
        """Coefficients that the file has and nobody asked for."""
        return [
            name
            for name, value in self.fields.items()
            if _COEFFICIENT.fullmatch(name)
            and name not in self._used
            and isinstance(value, (int, float))
            and value != 0
        ]


def _perspective(given: _Coefficients, note: Note) -> Distortion | None:
    k1, k2, k3, k4, k5, k6, p1, p2 = given("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
    if k5 or k6:
        note(
            "k4, k5 and k6 of a perspective camera are taken as OpenCV's denominator "
            "(camera_model FULL_OPENCV says so)"
        )
        return Brown((k1, k2, k3), (k4, k5, k6), (p1, p2))
    if k4:
        note(
            "k4 of a perspective camera is taken as a fourth radial term, as in nerfstudio; if it "
            "is OpenCV's, set camera_model to FULL_OPENCV"
        )
    return _four_radial(given, note)


def _four_radial(given: _Coefficients, note: Note) -> Distortion | None:
    values = given("k1", "k2", "k3", "k4", "p1", "p2")
    return Brown(values[:4], (), (values[4], values[5])) if any(values) else None


def _rational(given: _Coefficients, note: Note) -> Distortion | None:
    values = given("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
    return Brown(values[:3], values[3:6], (values[6], values[7])) if any(values) else None


def _fisheye(given: _Coefficients, note: Note) -> Distortion:
    return Fisheye(Brown(given("k1", "k2", "k3", "k4")))


def _thin_prism(given: _Coefficients, note: Note) -> Distortion:
    p1, p2, sx1, sy1 = given("p1", "p2", "sx1", "sy1")
    return Fisheye(Brown(given("k1", "k2", "k3", "k4"), (), (p1, p2), (sx1, sy1)))


def _fisheye_624(given: _Coefficients, note: Note) -> Distortion:
    # COLMAP counts from 0, nerfstudio from 1.
    first = 0 if "k0" in given.fields else 1
    radial = given(*(f"k{first + i}" for i in range(6)))
    p0, p1 = given(*(f"p{first + i}" for i in range(2)))
    s0, s1, s2, s3 = given(*(f"s{first + i}" for i in range(4)))
    return Fisheye(RadialTangentialPrism(radial, (p0, p1), (s0, s1, s2, s3)))


_MODELS: dict[str, Callable[[_Coefficients, Note], Distortion | None]] = {
    **dict.fromkeys(_PERSPECTIVE, _perspective),
    **dict.fromkeys(_FOUR_RADIAL, _four_radial),
    **dict.fromkeys(_RATIONAL, _rational),
    **dict.fromkeys(_FISHEYE, _fisheye),
    **dict.fromkeys(_PRISM, _thin_prism),
    **dict.fromkeys(_FISHEYE_624, _fisheye_624),
    **dict.fromkeys(_DIVISION, lambda given, note: Division(given.needed("k", "k1"))),
    "FOV": lambda given, note: FieldOfView(given.needed("omega")),
    "EUCM": lambda given, note: Unified(given.needed("alpha"), given.needed("beta")),
}
