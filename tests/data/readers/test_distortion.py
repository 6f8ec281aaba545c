"""Lens models against COLMAP's own code and OpenCV's."""

import cv2
import numpy as np
import pycolmap
import pytest
import torch

from mvsplat.data.readers.colmap_cameras import MODEL_NAMES, colmap_lens, parameter_count
from mvsplat.data.readers.distortion import Brown, Fisheye

# Small enough coefficients that every model is one to one over the picture.
COEFFICIENTS = {
    "SIMPLE_RADIAL": [-0.08],
    "RADIAL": [-0.08, 0.02],
    "OPENCV": [-0.12, 0.03, 0.002, -0.003],
    "OPENCV_FISHEYE": [0.02, -0.01, 0.004, -0.001],
    "FULL_OPENCV": [-0.1, 0.03, 0.002, -0.001, 0.01, 0.02, -0.01, 0.003],
    "FOV": [0.7],
    "SIMPLE_RADIAL_FISHEYE": [0.03],
    "RADIAL_FISHEYE": [0.03, -0.01],
    "THIN_PRISM_FISHEYE": [0.02, -0.01, 0.001, -0.002, 0.003, -0.001, 0.002, 0.001],
    "RAD_TAN_THIN_PRISM_FISHEYE": [
        *(0.02, -0.01, 0.004, -0.001, 0.0005, 0.0002),
        *(0.001, -0.002, 0.002, 0.001, -0.001, 0.0005),
    ],
    "SIMPLE_DIVISION": [-0.1],
    "DIVISION": [-0.1],
    "EUCM": [0.4, 1.1],
}
RAYS = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_every_colmap_model_projects_as_colmap_does(model):
    coefficients = COEFFICIENTS.get(model, [])
    focal = [310.0, 290.0][: parameter_count(model) - 2 - len(coefficients)]
    parameters = [*focal, 201.5, 148.0, *coefficients]
    camera = pycolmap.Camera(model=model, width=400, height=300, params=parameters)
    rays = np.concatenate([RAYS.numpy(), np.ones((len(RAYS), 1))], 1)
    expected = camera.img_from_cam(rays)

    lens = colmap_lens(model, (400, 300), parameters)
    found = lens.observe(RAYS) * torch.tensor([400.0, 300.0], dtype=torch.float64)

    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8)


def test_the_models_are_numbered_as_colmap_numbers_them():
    for number, name in enumerate(MODEL_NAMES):
        assert int(pycolmap.CameraModelId.__members__[name].value) == number


def test_brown_is_opencv():
    k = [-0.12, 0.03, 0.002, -0.003, 0.01, 0.02, -0.01, 0.003, 0.004, 0, -0.002, 0]
    model = Brown((k[0], k[1], k[4]), tuple(k[5:8]), (k[2], k[3]), (k[8], k[10]))
    np.testing.assert_allclose(model(RAYS).numpy(), opencv(cv2.projectPoints, k), atol=1e-9)


def test_fisheye_is_opencv():
    k = [0.02, -0.01, 0.004, -0.001]
    found = Fisheye(Brown(tuple(k)))(RAYS)
    np.testing.assert_allclose(found.numpy(), opencv(cv2.fisheye.projectPoints, k), atol=1e-9)
    assert Fisheye()(torch.zeros(1, 2, dtype=torch.float64)).tolist() == [[0.0, 0.0]]


def opencv(project, coefficients):
    rays = np.concatenate([RAYS.numpy(), np.ones((len(RAYS), 1))], 1)[:, None]
    zero, k = np.zeros(3), np.array(coefficients)
    if project is cv2.projectPoints:
        return project(rays, zero, zero, np.eye(3), k)[0][:, 0]
    return project(rays, zero[:, None], zero[:, None], np.eye(3), k)[0][:, 0]


@pytest.mark.parametrize(
    ("model", "parameters", "message"),
    [
        ("PINHOLE", [1.0, 1.0, 1.0], "PINHOLE has 4 parameters, found 3"),
        ("PINHOLE", [float("nan"), 1.0, 1.0, 1.0], "not finite"),
        ("PINHOLE", [0.0, 1.0, 1.0, 1.0], "focal length is 0"),
        ("EQUIRECTANGULAR", [1.0, 1.0], "'EQUIRECTANGULAR' is not supported"),
    ],
)
def test_impossible_cameras_are_refused(model, parameters, message):
    with pytest.raises(ValueError, match=message):
        colmap_lens(model, (400, 300), parameters)
    with pytest.raises(ValueError, match="size is 0 x 300"):
        colmap_lens("PINHOLE", (0, 300), [1.0, 1.0, 1.0, 1.0])
