"""Estimated cameras against the true ones of a generated room; and what goes wrong, said well."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.data import open_scenes
from mvsplat.reconstruction.cameras import sfm_worker
from mvsplat.reconstruction.cameras import structure_from_motion as sfm
from mvsplat.reconstruction.cameras.pairs import pairs_to_match
from mvsplat.reconstruction.collecting import collect, photo_paths

pycolmap = import_module("pycolmap") if find_spec("pycolmap") else None
needs_pycolmap = pytest.mark.skipif(
    find_spec("pycolmap") is None, reason="pycolmap is not installed (the extra photos)"
)


@pytest.fixture(scope="module")
def estimated(photos, tmp_path_factory):
    if find_spec("pycolmap") is None:
        pytest.skip("pycolmap is not installed (the extra photos)")
    work = tmp_path_factory.mktemp("work")
    told = []
    collection = collect(photo_paths(photos), work / "images")
    result = sfm.estimate_cameras(collection, work, progress=lambda *told_: told.append(told_))
    return collection, result, told


def test_cameras_are_the_true_ones_up_to_a_similarity(room, estimated):
    collection, result, _ = estimated
    source = open_scenes(result.folder)
    scene = source.scene("test", source.keys("test")[0])
    assert len(scene) == len(room) and result.dropped == {}
    found, true = scene.extrinsics.double(), room.extrinsics.double()
    # The rotation between the two worlds, from each camera: they agree.
    turns = true[:, :3, :3] @ found[:, :3, :3].mT
    spread = (turns @ turns[0].mT).diagonal(dim1=-2, dim2=-1).sum(-1)
    degrees = torch.rad2deg(torch.acos(((spread - 1) / 2).clamp(max=1)))
    assert float(degrees.max()) < 0.5
    a, b = found[:, :3, 3] @ turns[0].mT, true[:, :3, 3]
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (a * b).sum() / (a * a).sum()
    assert float((scale * a - b).norm(dim=-1).max()) < 0.03 * float(torch.pdist(b).max())
    focal = scene.intrinsics[0, 0, 0] / room.intrinsics[0, 0, 0]
    assert 0.97 < float(focal) < 1.03


def test_photographs_are_numbered_in_their_order(photos, estimated, tmp_path):
    """Not as threads finish: the same photographs get the same cameras, bit by bit."""
    _, first, _ = estimated
    again = sfm.estimate_cameras(collect(photo_paths(photos), tmp_path / "images"), tmp_path)
    models = [pycolmap.Reconstruction(result.folder / "sparse" / "0") for result in (first, again)]
    names = [image.name for _, image in sorted(models[0].images.items())]
    assert names == sorted(names)
    for number, image in models[0].images.items():
        pose, other = (i.cam_from_world().matrix() for i in (image, models[1].images[number]))
        np.testing.assert_array_equal(pose, other)


def test_progress_tells_every_stage_to_its_end(estimated):
    _, _, told = estimated
    assert list(dict.fromkeys(stage for stage, *_ in told)) == list(sfm.STAGES.values())
    assert all(0 <= done <= total for _, done, total in told)
    assert ("Finding features", 8, 8) in told and ("Matching photos", 28, 28) in told


@needs_pycolmap
def test_two_photos_are_enough(room, photos, tmp_path):
    places = [0, 3]
    paths = photo_paths(photos)
    collection = collect([paths[place] for place in places], tmp_path / "images")
    result = sfm.estimate_cameras(collection, tmp_path)
    source = open_scenes(result.folder)
    found = source.scene("test", source.keys("test")[0]).extrinsics.double()
    assert len(found) == 2 and result.points > 50
    true = room.extrinsics[places].double()

    def between(cameras):
        motion = torch.linalg.inv(cameras[0]) @ cameras[1]
        return motion[:3, :3], motion[:3, 3] / motion[:3, 3].norm()

    (turn, way), (true_turn, true_way) = between(found), between(true)
    assert float(((turn @ true_turn.mT).trace() - 1) / 2) > np.cos(np.radians(2))
    assert float(way @ true_way) > np.cos(np.radians(10))


@needs_pycolmap
def test_photos_of_two_places_keep_the_larger_group(photos, tmp_path):
    paths = photo_paths(photos)[:5]
    other = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    stranger = tmp_path / "stranger.png"
    Image.fromarray(other).resize((400, 300)).save(stranger)
    collection = collect([*paths, stranger], tmp_path / "images")
    result = sfm.estimate_cameras(collection, tmp_path)
    assert result.dropped == {"stranger.png": "does not match the others"}


@needs_pycolmap
def test_photos_of_different_places_are_an_error_with_advice(tmp_path):
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((320, 240)).save(tmp_path / f"{seed}.png")
    collection = collect(photo_paths(tmp_path), tmp_path / "images")
    with pytest.raises(ValueError, match="no two of them show the same thing") as error:
        sfm.estimate_cameras(collection, tmp_path)
    assert "overlap by half" in str(error.value)


@needs_pycolmap
def test_a_camera_that_only_turned_is_recognised(tmp_path):
    """Pictures of one large noise picture far away, through a camera that pans."""
    rng = np.random.default_rng(0)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, 2 * n, 3), dtype=np.uint8)).resize((1600, 800))
        for n in (200, 50, 12)
    ]
    world = np.mean([np.asarray(layer, float) for layer in layers], axis=0)
    y, x = np.mgrid[0:240, 0:320].astype(float)
    ray = np.stack([(x - 160) / 384, (y - 120) / 384, np.ones_like(x)], -1)
    for number, degrees in enumerate((-10, -4, 2, 8)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turned = ray @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
        column = 800 + 900 * np.arctan2(turned[..., 0], turned[..., 2])
        row = 400 + 900 * turned[..., 1] / np.hypot(turned[..., 0], turned[..., 2])
        pixels = world[row.round().astype(int), column.round().astype(int)]
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    collection = collect(photo_paths(tmp_path), tmp_path / "images")
    with pytest.raises(ValueError, match="only to have turned on the spot"):
        sfm.estimate_cameras(collection, tmp_path)


def test_pycolmap_missing_is_said_with_the_command_that_installs_it(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sfm, "find_spec", lambda name: None)
    collection = collect(photo_paths(photos)[:2], tmp_path / "images")
    with pytest.raises(ValueError, match=r"pip install 'mvsplat\[photos\]'"):
        sfm.estimate_cameras(collection, tmp_path)


def pretend_worker(monkeypatch, folder, code):
    """Whatever Python is started for does ``code`` instead."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(sfm, "find_spec", lambda name: name)


def task_of(collection, folder, monkeypatch):
    """What the worker is told to do, from a worker that does nothing."""
    with monkeypatch.context() as patch:
        pretend_worker(patch, folder, "")
        with pytest.raises(RuntimeError):
            sfm.estimate_cameras(collection, folder)
    return json.loads((folder / "task.json").read_text())


@pytest.mark.parametrize(
    "code, message",
    [
        ("import os; os.abort()", "was ended by SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "out of memory"),
        ("import sys; sys.exit('no luck')", "ended with code 1.*no luck"),
        ("print('chatter')", "ended with code 0"),
    ],
)
def test_a_worker_that_dies_is_an_error_not_our_death(photos, tmp_path, monkeypatch, code, message):
    pretend_worker(monkeypatch, tmp_path, code)
    collection = collect(photo_paths(photos)[:2], tmp_path / "images")
    with pytest.raises(RuntimeError, match=message):
        sfm.estimate_cameras(collection, tmp_path)


@needs_pycolmap
def test_the_worker_ends_when_the_program_that_started_it_dies(photos, tmp_path, monkeypatch):
    collection = collect(photo_paths(photos), tmp_path / "images")
    task_of(collection, tmp_path, monkeypatch)
    worker = subprocess.Popen(
        [sys.executable, "-m", sfm_worker.__name__, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert json.loads(worker.stdout.readline())["stage"] == "features"
    worker.stdin.close()
    assert worker.wait(timeout=60) == 1
    worker.stdout.close()


def test_an_interruption_ends_the_worker(photos, tmp_path, monkeypatch):
    pid = tmp_path / "pid"
    code = (
        f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); "
        'print(\'{"stage": "features", "done": 0, "total": 1}\', flush=True); time.sleep(60)'
    )
    pretend_worker(monkeypatch, tmp_path, code)

    def interrupt(*_):
        raise KeyboardInterrupt

    collection = collect(photo_paths(photos)[:2], tmp_path / "images")
    with pytest.raises(KeyboardInterrupt):
        sfm.estimate_cameras(collection, tmp_path, progress=interrupt)
    time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIG_DFL)


def test_pairs_of_few_photos_are_all_and_of_many_the_neighbours():
    assert len(pairs_to_match(5)) == 10
    many = pairs_to_match(200)
    assert len(many) < 200 * 14 and len(set(many)) == len(many)
    assert {(0, 1), (0, 10), (0, 16), (0, 128), (198, 199)} <= set(many) and (0, 11) not in many


def test_photos_of_one_camera_share_their_intrinsics(photos, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 24
    names = []
    for number, path in enumerate(photo_paths(photos)[:4]):
        names.append(tmp_path / f"{number}.jpg")
        with Image.open(path) as image:
            image.save(names[-1], **({"exif": exif} if number < 2 else {}))
    cameras = task_of(collect(names, tmp_path / "images"), tmp_path, monkeypatch)["cameras"]
    assert [len(camera["files"]) for camera in cameras] == [2, 2]
    assert cameras[0]["focal_length"] == pytest.approx(24 / 43.2666 * 500, rel=1e-4)
    assert cameras[1]["focal_length"] is None
