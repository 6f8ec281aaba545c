"""Camera models of transforms.json: all their names, and what their coefficients mean."""

import math
import re

import numpy as np
import pytest
import torch
from captures import pose, write_transforms

from mvsplat.data import TransformsScenes
from mvsplat.data.readers.colmap_cameras import MODEL_NAMES, colmap_lens, parameter_count
from mvsplat.data.readers.distortion import Brown, Fisheye

POSES = [pose(seed) for seed in range(2)]
RAYS = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 2))
# What COLMAP calls its models' coefficients, in its order.
COEFFICIENTS = {
    "SIMPLE_PINHOLE": "",
    "PINHOLE": "",
    "SIMPLE_RADIAL": "k1",
    "RADIAL": "k1 k2",
    "OPENCV": "k1 k2 p1 p2",
    "OPENCV_FISHEYE": "k1 k2 k3 k4",
    "FULL_OPENCV": "k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "omega",
    "SIMPLE_RADIAL_FISHEYE": "k1",
    "RADIAL_FISHEYE": "k1 k2",
    "THIN_PRISM_FISHEYE": "k1 k2 p1 p2 k3 k4 sx1 sy1",
    "RAD_TAN_THIN_PRISM_FISHEYE": "k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
    "SIMPLE_DIVISION": "k",
    "DIVISION": "k",
    "SIMPLE_FISHEYE": "",
    "FISHEYE": "",
    "EUCM": "alpha beta",
}


def read(folder, **fields):
    write_transforms(folder, POSES, **fields)
    return TransformsScenes(str(folder), key="k").scene("test", "k")


def distortion(folder, **fields):
    return read(folder, **fields).photos[0].lens.distortion


@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_model_of_colmap_is_the_same_lens_here(tmp_path, model, spelled, caplog):
    import pycolmap

    names = COEFFICIENTS[model].split()
    values = {name: 0.01 * (1 + number) for number, name in enumerate(names)}
    values |= {"alpha": 0.6, "beta": 1.1} if model == "EUCM" else {}
    scene = read(tmp_path, camera_model=spelled(model), **values)
    observed = scene.photos[0].lens.observe(torch.tensor(RAYS)).numpy() * [40, 30]
    count = parameter_count(model)
    focal = [50.0] if count - 2 - len(names) == 1 else [50.0, 51.0]
    parameters = [*focal, 20.5, 15.25, *values.values()]
    if len(focal) == 1:
        expected = colmap_lens(model, (40, 30), parameters).observe(torch.tensor(RAYS)).numpy()
        expected[:, 1] = expected[:, 1] * 30 - 15.25
        expected[:, 1] = (expected[:, 1] * 51 / 50 + 15.25) / 30  # ours has two focal lengths
        expected *= [40, 30]
    else:
        camera = pycolmap.Camera(model=model, width=40, height=30, params=parameters)
        expected = camera.img_from_cam(np.c_[RAYS, np.ones(len(RAYS))])
    np.testing.assert_allclose(observed, expected, atol=1e-6)
    assert not caplog.messages  # what the name says needs no word


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"camera_model": None, "k1": 0.1}, Brown((0.1, 0.0, 0.0, 0.0))),
        ({"camera_model": "Perspective"}, None),
        ({"camera_model": "frame", "k1": 0.1}, Brown((0.1, 0.0, 0.0, 0.0))),
        ({"camera_model": "Brown4 with tangential2", "k4": 0.1}, Brown((0.0, 0.0, 0.0, 0.1))),
        ({"camera_model": "opencv-fisheye", "k1": 0.1}, Fisheye(Brown((0.1, 0.0, 0.0, 0.0)))),
        ({"camera_model": "OPENCV", "is_fisheye": True}, Fisheye(Brown((0.0,) * 4))),
        ({"camera_model": None, "is_fisheye": True}, Fisheye(Brown((0.0,) * 4))),
        ({"k1": None, "k2": 0.1}, Brown((0.0, 0.1, 0.0, 0.0))),
        (
            {"distortion_params": [0.1, 0.2, 0.3, 0.0, 0.5, 0.6]},
            Brown((0.1, 0.2, 0.3, 0.0), (), (0.5, 0.6)),
        ),
        ({"k1": 0.0, "k4": 0, "k5": 0, "k6": 0.0, "p1": 0, "s1": 0.0}, None),
    ],
)
def test_other_spellings(tmp_path, fields, expected, caplog):
    assert distortion(tmp_path, **fields) == expected
    assert not caplog.messages


@pytest.mark.parametrize(
    ("fields", "expected", "said"),
    [
        ({"k4": 0.05}, Brown((-0.1, 0.0, 0.0, 0.05)), "k4 .* fourth radial term, as in nerfstudio"),
        (
            {"k5": 0.2, "k6": 0.3},
            Brown((-0.1, 0.0, 0.0), (0.0, 0.2, 0.3)),
            "k6 .* OpenCV's denominator",
        ),
        ({"k4": 0.1, "k6": 0.3}, Brown((-0.1, 0.0, 0.0), (0.1, 0.0, 0.3)), "OpenCV's denominator"),
        ({"s1": 0.2, "b1": 3}, Brown((-0.1, 0.0, 0.0, 0.0)), "OPENCV has no s1, b1, .* not used"),
        ({"p3": 0.2}, Brown((-0.1, 0.0, 0.0, 0.0)), "OPENCV has no p3, .* not used"),
        (
            {"camera_model": "OPENCV_FISHEYE", "p1": 0.1, "k5": 0.1},
            Fisheye(Brown((-0.1, 0.0, 0.0, 0.0))),
            "OPENCV_FISHEYE has no (p1, k5|k5, p1), .* not used",
        ),
        (
            {"camera_model": "FULL_OPENCV", "sx1": 1},
            Brown((-0.1, 0.0, 0.0), (0.0, 0.0, 0.0)),
            "no sx1",
        ),
    ],
)
def test_what_is_uncertain_or_unused_is_said_once(tmp_path, fields, expected, said, caplog):
    assert distortion(tmp_path, k1=-0.1, **fields) == expected
    (line,) = caplog.messages
    assert re.search(said, line)


def test_an_opencv_denominator_observes_as_opencv_says(tmp_path):
    """OpenCV's documented formula, by hand."""
    k = dict(k1=-0.1, k2=0.02, k3=0.003, k4=0.05, k5=0.2, k6=0.3, p1=0.01, p2=-0.02)
    lens = read(tmp_path, **k).photos[0].lens
    x, y = RAYS.T
    r2 = x * x + y * y
    scale = (1 + k["k1"] * r2 + k["k2"] * r2**2 + k["k3"] * r2**3) / (
        1 + k["k4"] * r2 + k["k5"] * r2**2 + k["k6"] * r2**3
    )
    u = x * scale + 2 * k["p1"] * x * y + k["p2"] * (r2 + 2 * x * x)
    v = y * scale + k["p1"] * (r2 + 2 * y * y) + 2 * k["p2"] * x * y
    observed = lens.observe(torch.tensor(RAYS)).numpy() * [40, 30]
    np.testing.assert_allclose(observed, np.c_[50 * u + 20.5, 51 * v + 15.25], atol=1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model is 'EQUIRECTANGULAR', expected one of"),
        ({"camera_model": "spherical"}, "camera_model is 'spherical', expected one of .*OPENCV"),
        ({"camera_model": ["OPENCV"]}, "camera_model is .*OPENCV.*, expected one of"),
        ({"camera_model": "FOV"}, "camera_model FOV needs omega"),
        ({"camera_model": "EUCM", "alpha": 0.5}, "camera_model EUCM needs beta"),
        ({"k1": math.nan}, "k1 is not finite"),
        ({"k1": "x"}, "k1 is 'x', expected a number"),
        ({"distortion_params": [1, 2]}, r"distortion_params is \[1, 2\], expected k1, k2"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **fields)
