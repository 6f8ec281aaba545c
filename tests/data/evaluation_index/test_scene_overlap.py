"""Overlap of real scenes: by exact depth, by sparse points, by bounds, and after cropping."""

import io

import numpy as np
import pytest
import torch
import wall
from PIL import Image

from mvsplat.data.chunks.chunk_scenes import ChunkScenes
from mvsplat.data.evaluation_index.scene_overlap import OverlapSettings, frame_size, measure_overlap
from mvsplat.data.faults import UnsuitableScene
from mvsplat.data.generated.generated_scenes import GeneratedScenes
from mvsplat.data.scene import Scene
from mvsplat.data.transforms import crop_intrinsics
from mvsplat.geometry.overlap import compare_views, frustum_points

WHOLE = OverlapSettings(image_shape=None)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("rooms"))
    source = GeneratedScenes(root, train_scenes=1, test_scenes=3, frames=4, travel=1.6)
    source.prepare()
    return [source.scene("test", key) for key in source.keys("test")]


def true_covisibility(scene, i, j):
    """Share of i's pixels whose surface point j shows: every pixel, in double precision."""
    depth, other = (scene.depth(frame).astype(float) for frame in (i, j))
    height, width = depth.shape
    poses, cameras = scene.extrinsics.double().numpy(), scene.intrinsics.double().numpy()
    column, row = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    image = np.stack([column, row, np.ones_like(row)], -1)
    points = image @ np.linalg.inv(cameras[i]).T * depth[..., None]
    world = points @ poses[i, :3, :3].T + poses[i, :3, 3]
    there = (world - poses[j, :3, 3]) @ poses[j, :3, :3] @ cameras[j].T
    x, y = there[..., 0] / there[..., 2], there[..., 1] / there[..., 2]
    inside = (there[..., 2] > 0) & (x > 0) & (x < 1) & (y > 0) & (y < 1)
    place = np.where(inside, y * height, 0).astype(int), np.where(inside, x * width, 0).astype(int)
    return (inside & (there[..., 2] < 1.05 * other[place])).mean()


def test_exact_depth_gives_the_true_covisibility(rooms):
    errors, hidden = [], []
    for scene in rooms:
        pairs = measure_overlap(scene, WHOLE).pairs
        through = measure_overlap(scene, OverlapSettings(image_shape=None, evidence="bounds")).pairs
        for i in range(4):
            for j in range(4):
                truth = true_covisibility(scene, i, j)
                errors.append(abs(float(pairs.overlap[i, j]) - truth))
                hidden.append(abs(float(through.overlap[i, j]) - truth))
    assert max(errors) < 0.08 and np.mean(errors) < 0.02
    # Without depth it is an estimate: what is hidden counts, all depths count the same.
    assert max(hidden) < 0.3 and np.mean(hidden) < 0.12


def test_coverage_is_the_union(rooms):
    seen = measure_overlap(rooms[0], WHOLE)
    views = torch.tensor([0, 3])
    both = seen.coverage(torch.arange(4), by=views)
    single = torch.stack([seen.pairs.overlap[:, view] for view in (0, 3)])
    assert both[0] == pytest.approx(1, abs=0.01)
    assert (both >= single.max(0).values - 1e-6).all() and (both <= single.sum(0) + 1e-6).all()
    assert seen.overlap(torch.tensor([[0, 1], [0, 3]])).shape == (2,)


def test_the_map_of_what_others_show(rooms):
    seen = measure_overlap(rooms[0], WHOLE)
    others = torch.tensor([3])
    parts = seen.seen_map(0, others, size=8)
    assert parts.shape == (8, 8) and 0 <= parts.min() and parts.max() <= 1
    assert parts.mean() == pytest.approx(float(seen.pairs.overlap[0, 3]), abs=1e-3)


class Photos(Scene):
    """Frames of given sizes without depth; remembers which pictures were asked for."""

    def __init__(self, sizes, points=None, encoded=False):
        count = len(sizes)
        self.key, self.sizes, self.points, self.is_encoded = "photos", sizes, points, encoded
        self.extrinsics = torch.eye(4).repeat(count, 1, 1)
        self.extrinsics[:, 0, 3] = 0.2 * torch.arange(count)
        self.intrinsics = torch.eye(3).repeat(count, 1, 1)
        self.intrinsics[:, :2, 2] = 0.5
        for camera, (height, width) in zip(self.intrinsics, sizes, strict=True):
            camera[0, 0], camera[1, 1] = 1000 / width, 1000 / height
        self.asked = []

    def image(self, index):
        self.asked.append(index)
        height, width = self.sizes[index]
        return Image.new("RGB", (width, height))

    def encoded(self, index):
        if not self.is_encoded:
            return None
        height, width = self.sizes[index]
        buffer = io.BytesIO()
        Image.new("RGB", (width, height)).save(buffer, "PNG")
        return buffer.getvalue()


def test_views_are_those_of_the_crop():
    # Six landscape and two portrait photos: one of each is decoded, for its size.
    scene = Photos([(360, 640)] * 3 + [(640, 360)] * 2 + [(360, 640)] * 3)
    seen = measure_overlap(scene, OverlapSettings(near=2.0, far=4.0, image_shape=(256, 256)))
    assert sorted(scene.asked) == [0, 3]
    for frame, size in enumerate(scene.sizes):
        cropped = crop_intrinsics(scene.intrinsics[frame], size, (256, 256))
        torch.testing.assert_close(seen.intrinsics[frame], cropped)
    truth = compare_views(
        frustum_points(seen.extrinsics, seen.intrinsics, 2.0, 4.0, 12, 4),
        seen.extrinsics,
        seen.intrinsics,
    )
    torch.testing.assert_close(seen.pairs.overlap, truth.overlap)
    whole = measure_overlap(scene, OverlapSettings(near=2.0, far=4.0, image_shape=None))
    assert whole.pairs.mutual[0, 2] > seen.pairs.mutual[0, 2]


def test_a_files_header_tells_the_size():
    scene = Photos([(360, 640), (640, 360)], encoded=True)
    assert [frame_size(scene, frame) for frame in (0, 1)] == scene.sizes
    assert scene.asked == []


def test_the_best_evidence_there_is():
    size = [(100, 100)] * 3
    points = torch.rand(50, 3) + torch.tensor([-0.5, -0.5, 12.0])
    with_points, without = Photos(size, points), Photos(size)
    assert measure_overlap(with_points, WHOLE).shown.weight.shape[1] == 50
    # Bounds are estimated from the cameras where nothing else is known.
    assert measure_overlap(without, WHOLE).shown.weight.shape[1] == 12 * 12 * 4
    for evidence in ("points", "depth"):
        with pytest.raises(UnsuitableScene, match=f"has no {evidence}"):
            measure_overlap(without, OverlapSettings(evidence=evidence))
    bounds = OverlapSettings(evidence="bounds", image_shape=None, near=10.0, far=10.0001)
    depths = measure_overlap(with_points, bounds).shown.position[0, :, 2]
    assert depths.min() > 9.99 and depths.max() < 10.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near": 3.0, "far": 2.0}, "near is 3.0 and far is 2.0; expected 0 < near < far"),
        ({"near": 0.0}, "near is 0.0"),
        ({"far": float("nan")}, "far is nan"),
        ({"image_shape": (0, 256)}, r"image_shape is \[0, 256\]"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OverlapSettings(**settings)


def test_overlap_and_coverage_of_a_wall(tmp_path):
    scene = ChunkScenes(str(wall.write_chunk(tmp_path, 14, (160, 90)))).scene("test", "wall")
    seen = measure_overlap(scene, OverlapSettings(near=0.99 * wall.DEPTH, far=1.01 * wall.DEPTH))
    # The square crop is 90 pixels wide.
    for gap in range(12):
        assert seen.pairs.mutual[2, 2 + gap] == pytest.approx(wall.overlap(gap, 90), abs=0.05)
    # Frames 2 and 6 show all that those between them do, and less and less of those beyond.
    coverage = seen.coverage(torch.arange(14), by=torch.tensor([2, 6]))
    assert coverage[2:7].min() == 1
    beyond = torch.tensor([wall.overlap(gap, 90) for gap in range(8)])
    torch.testing.assert_close(coverage[6:], beyond, atol=0.05, rtol=0)
