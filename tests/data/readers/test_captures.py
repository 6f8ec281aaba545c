"""Exports of capture apps: where each format's own definition sees points, the scene does, too."""

import gzip
import json

import numpy as np
import pytest
import torch
from captures import SIZE, pose, rotation, write_colmap_text, write_picture
from PIL import Image

from mvsplat.data import open_scenes
from mvsplat.export.cameras import Cameras, Frame, save_cameras

W, H = SIZE
F = (50.0, 51.0)
C = (20.5, 15.25)
COUNT = 3
POINTS = np.random.default_rng(5).uniform(-6, 6, (4000, 3))


def place(number):
    return np.random.default_rng(number + 100).normal(size=3)


def pinhole(local):
    """Pixels of camera coordinates with OpenCV's axes, and whether they are in front and near."""
    z = local[:, 2]
    visible = (z > 0.5) & (np.abs(local[:, :2]) < 0.8 * z[:, None]).all(1)
    image_plane = local[visible, :2] / z[visible, None]
    return image_plane * F + C, visible


def opengl(local):
    """The same with x right, y up, z backward."""
    return pinhole(local * [1, -1, -1])


def seen_by(scene, index, visible):
    """Pixels of the points by the scene's camera."""
    local = torch.from_numpy(POINTS[visible]) - scene.extrinsics[index, :3, 3].double()
    local = local @ scene.extrinsics[index, :3, :3].double()
    lens = scene.photos[index].lens
    return (lens.observe(local[:, :2] / local[:, 2:]) * torch.tensor(SIZE)).numpy()


def check(scene, project, count=COUNT, tolerance=2e-3):
    """Every camera sees what ``project(index)`` does, and has the picture of its number."""
    assert len(scene) == count and not scene.left_out
    for index in range(count):
        pixels, visible = project(index)
        assert visible.sum() > 20
        np.testing.assert_allclose(seen_by(scene, index, visible), pixels, atol=tolerance)
        assert scene.image(index).getpixel((3, 3))[0] == pytest.approx(index, abs=3)


def the_scene(folder, split="test"):
    source = open_scenes(folder, split=split)
    (key,) = source.keys(split)
    return source.scene(split, key)


def arkit(number):
    """Camera-to-world whose columns are right, up and backward."""
    return np.block([[rotation(number), place(number)[:, None]], [np.zeros(3), 1]])


def arkit_view(number):
    return opengl((POINTS - place(number)) @ rotation(number))


def write_polycam(folder, cameras="cameras", images="images", start=0):
    for number in range(COUNT):
        matrix = arkit(number + start)
        fields = {"fx": F[0], "fy": F[1], "cx": C[0], "cy": C[1], "width": W, "height": H}
        fields |= {f"t_{r}{c}": matrix[r, c] for r in range(3) for c in range(4)}
        file = folder / f"keyframes/{cameras}/{1000 + number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(fields | {"blur_score": 200.0}))
        write_picture(folder / f"keyframes/{images}/{1000 + number}.png", number)
    return folder


def test_polycam(tmp_path):
    check(the_scene(write_polycam(tmp_path)), arkit_view)
    assert open_scenes(tmp_path).keys("test") == [tmp_path.name]
    check(the_scene(tmp_path / "keyframes"), arkit_view)
    write_polycam(tmp_path, "corrected_cameras", "corrected_images", start=10)
    check(the_scene(tmp_path), lambda index: arkit_view(index + 10))


def quaternion_of(matrix):
    from pycolmap import Rotation3d

    return Rotation3d(matrix).quat  # x, y, z, w, as Record3D's


def write_record3d(folder, **fields):
    poses = [[*quaternion_of(rotation(i)), *place(i)] for i in range(COUNT)]
    content = {"w": W, "h": H, "K": [F[0], 0, 0, 0, F[1], 0, *C, 1], "poses": poses}
    for number in range(COUNT):
        write_picture(folder / f"rgb/{number}.png", number)
    (folder / "metadata.json").write_text(json.dumps(content | fields))
    return folder


def test_record3d(tmp_path):
    check(the_scene(write_record3d(tmp_path)), arkit_view)
    check(the_scene(tmp_path / "metadata.json"), arkit_view)
    own = [[*F, *C]] * COUNT
    write_record3d(tmp_path, K=[9, 0, 0, 0, 9, 0, 1, 1, 1], perFrameIntrinsicCoeffs=own)
    check(the_scene(tmp_path), arkit_view)


def write_llff(folder, names, focal=50.0):
    rows = []
    for number in range(COUNT):
        down, right, backward = rotation(number).T
        matrix = np.stack([down, right, backward, place(number)], 1)
        rows.append([*np.hstack([matrix, [[H], [W], [focal]]]).ravel(), 1.5, 20.0 + number])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    for number, name in enumerate(names):
        write_picture(folder / name, number)
    return folder


def test_llff(tmp_path):
    names = [f"images/IMG_{i}.png" for i in range(COUNT)]
    scene = the_scene(write_llff(tmp_path, names))

    def project(number):
        down, right, backward = rotation(number).T
        away = POINTS - place(number)
        depth = -away @ backward
        visible = (depth > 0.5) & (np.abs(away @ right) < depth) & (np.abs(away @ down) < depth)
        axes = np.stack([away @ right, away @ down], 1)[visible] / depth[visible, None]
        return axes * 50 + [W / 2, H / 2], visible

    check(scene, project)
    assert (scene.near, scene.far) == (1.5, 22.0)
    for number in range(COUNT):  # published reduced pictures have other names
        (tmp_path / names[number]).rename(tmp_path / f"images/image{number:03d}.png")
    (tmp_path / "images").rename(tmp_path / "images_4")
    check(the_scene(tmp_path), project)
    write_colmap_text(
        tmp_path / "sparse/0", [pose(i) for i in range(COUNT)], names=["a.JPG", "b.JPG", "c.JPG"]
    )
    scene = the_scene(tmp_path)  # COLMAP's cameras, its pictures by their order
    expected = torch.tensor(np.stack([pose(i) for i in range(COUNT)]), dtype=torch.float32)
    torch.testing.assert_close(scene.extrinsics, expected, atol=1e-6, rtol=0)
    (tmp_path / "images_4/image001.png").unlink()
    with pytest.raises(ValueError, match=r"has 3 cameras, but images_4/ has 2 pictures"):
        the_scene(tmp_path)


def write_co3d(root, category, kind="ndc_isotropic"):
    """Two sequences; returns all cameras as they are in the file."""
    frames, cameras = [], []
    for number in range(2 * COUNT):
        r, t = rotation(number), place(number)
        focal, centre = np.array([2.5, 2.4]), np.array([0.05, -0.1])
        cameras.append((r, t, focal, centre))
        sequence = f"110_1_{number // COUNT}"
        path = f"{category}/{sequence}/images/frame{number + 1:06d}.png"
        write_picture(root / path, number % COUNT)
        viewpoint = {"R": r.tolist(), "T": t.tolist(), "intrinsics_format": kind}
        viewpoint |= {"focal_length": focal.tolist(), "principal_point": centre.tolist()}
        frames.append(
            {
                "sequence_name": sequence,
                "frame_number": number,
                "image": {"path": path, "size": [H, W]},
                "viewpoint": viewpoint,
            }
        )
    with gzip.open(root / category / "frame_annotations.jgz", "wt") as file:
        json.dump(frames, file)
    return cameras


@pytest.mark.parametrize("kind", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_co3d(tmp_path, kind):
    cameras = write_co3d(tmp_path, "apple", kind)
    half = np.array([W, H]) / 2
    unit = half.min() if kind == "ndc_isotropic" else half

    def project(number):
        r, t, focal, centre = cameras[number]
        local = POINTS @ r + t  # PyTorch3D multiplies rows, x to the left, y up
        z = local[:, 2]
        visible = (z > 0.5) & (np.abs(local[:, :2]) < z[:, None]).all(1)
        ndc = focal * local[visible, :2] / z[visible, None] + centre
        return half - ndc * unit, visible

    source = open_scenes(tmp_path)
    assert source.keys("test") == ["apple/110_1_0", "apple/110_1_1"]
    check(source.scene("test", "apple/110_1_0"), project)
    check(source.scene("test", "apple/110_1_1"), lambda index: project(index + COUNT))
    check(the_scene(tmp_path / "apple/110_1_1", "train"), lambda index: project(index + COUNT))
    assert open_scenes(tmp_path / "apple").keys("train") == []


RADIAL, TANGENTIAL = [0.05, -0.02, 0.01], [0.003, -0.002]


def write_nerfies(folder):
    for number in range(COUNT):
        fields = {
            "orientation": rotation(number).tolist(),
            "position": place(number).tolist(),
            "focal_length": F[0],
            "pixel_aspect_ratio": F[1] / F[0],
            "principal_point": C,
            "skew": 0.0,
            "radial_distortion": RADIAL,
            "tangential_distortion": TANGENTIAL,
            "image_size": SIZE,
        }
        (folder / "camera").mkdir(exist_ok=True)
        (folder / f"camera/{number:06d}.json").write_text(json.dumps(fields))
        write_picture(folder / f"rgb/1x/{number:06d}.png", number)


def test_nerfies(tmp_path):
    cv2 = pytest.importorskip("cv2")
    write_nerfies(tmp_path)
    for number in range(COUNT):
        write_picture(tmp_path / f"rgb/16x/{number:06d}.png", 200, (8, 6))
    (tmp_path / "scene.json").write_text(json.dumps({"scale": 0.5, "near": 0.1, "far": 4.0}))
    np.save(tmp_path / "points.npy", POINTS[:7])

    def project(number):
        local = (POINTS - place(number)) @ rotation(number).T
        _, visible = pinhole(local)
        matrix = np.array([[F[0], 0, C[0]], [0, F[1], C[1]], [0, 0, 1]])
        distortion = np.array([*RADIAL[:2], *TANGENTIAL, RADIAL[2]])
        found, _ = cv2.projectPoints(local[visible], np.zeros(3), np.zeros(3), matrix, distortion)
        return found[:, 0], visible

    scene = the_scene(tmp_path)
    check(scene, project)
    assert (scene.near, scene.far) == (0.2, 8.0)
    torch.testing.assert_close(scene.points, torch.tensor(POINTS[:7], dtype=torch.float32))


MATRIX = f"{F[0]} 0 {C[0]} 0\n0 {F[1]} {C[1]} 0\n0 0 1 0\n0 0 0 1\n"


def write_nsvf(folder, pictures="rgb", intrinsics="intrinsics.txt", text=MATRIX):
    for number in range(COUNT):
        file = folder / f"pose/0_{number:05d}.txt"
        file.parent.mkdir(exist_ok=True)
        np.savetxt(file, pose(number))
        write_picture(folder / f"{pictures}/0_{number:05d}.png", number)
        file = folder / intrinsics.format(f"0_{number:05d}")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("pictures", "intrinsics", "text", "focal"),
    [
        ("rgb", "intrinsics.txt", MATRIX, F),
        ("rgb", "intrinsics.txt", f"50.0 {C[0]} {C[1]} 0.\n0. 0. 0.\n0.\n1.\n40 30\n", (50, 50)),
        ("color", "intrinsic/intrinsic_color.txt", MATRIX, F),
        ("rgb", "intrinsics/{}.txt", MATRIX.replace("\n", " "), F),
    ],
)
def test_nsvf_nerfpp_and_scannet(tmp_path, pictures, intrinsics, text, focal):
    write_nsvf(tmp_path, pictures, intrinsics, text)

    def project(number):
        pixels, visible = pinhole((POINTS - pose(number)[:3, 3]) @ pose(number)[:3, :3])
        return (pixels - C) / F * focal + C, visible

    check(the_scene(tmp_path), project)


def fisheye(number, k):
    cv2 = pytest.importorskip("cv2")
    local = (POINTS - pose(number)[:3, 3]) @ pose(number)[:3, :3]
    _, visible = pinhole(local)
    matrix = np.array([[F[0], 0, C[0]], [0, F[1], C[1]], [0, 0, 1]])
    found, _ = cv2.fisheye.projectPoints(
        local[visible][:, None], np.zeros(3), np.zeros(3), matrix, np.array(k)
    )
    return found[:, 0], visible


def test_scannetpp(tmp_path):
    k = (0.02, -0.01, 0.003, 0.0005)
    numbers = " ".join(map(str, (*F, *C, *k)))
    names = [f"DSC0000{number}.png" for number in range(COUNT)]
    poses = [pose(number) for number in range(COUNT)]
    dslr = tmp_path / "data/8a20d62ac0/dslr"
    for number, name in enumerate(names):
        write_picture(dslr / f"resized_images/{name}", number)
    write_colmap_text(dslr / "colmap", poses, f"1 OPENCV_FISHEYE 40 30 {numbers}\n", names)
    for path in (dslr.parent, dslr):
        scene = the_scene(path)
        check(scene, lambda index: fisheye(index, k))
        assert len(scene.points) == 2
    assert open_scenes(tmp_path / "data").keys("test") == ["8a20d62ac0"]
    for file in (dslr / "colmap").iterdir():
        file.unlink()
    flip = np.diag([1.0, -1, -1, 1])
    frames = [
        {"file_path": name, "transform_matrix": (matrix @ flip).tolist(), "is_bad": False}
        for name, matrix in zip(names, poses, strict=True)
    ]
    content = dict(zip(("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4"), (*F, *C, *k)))
    content |= {"w": W, "h": H, "camera_model": "OPENCV_FISHEYE"}
    (dslr / "nerfstudio").mkdir()
    (dslr / "nerfstudio/transforms.json").write_text(
        json.dumps(content | {"frames": frames[:2], "test_frames": frames[2:]})
    )
    scene = the_scene(dslr.parent)
    check(scene, lambda index: fisheye(index, k))
    assert scene.mask(0) is None
    (dslr / "resized_anon_masks").mkdir()
    valid = np.arange(W)[None].repeat(H, 0) < W // 2
    Image.fromarray(valid * np.uint8(255)).save(dslr / f"resized_anon_masks/{names[0]}")
    mask = the_scene(dslr.parent).mask(0)
    assert mask[:, : W // 3].all() and not mask[:, -W // 3 :].any()
    iphone = tmp_path / "phone/iphone"
    video = [f"video/frame_00000{number}.jpg" for number in range(COUNT)]
    for number in range(COUNT):
        write_picture(iphone / f"rgb/frame_00000{number}.jpg", number, quality=98)
    write_colmap_text(iphone / "colmap", poses, names=video)
    assert len(the_scene(iphone.parent)) == COUNT


METASHAPE = """<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1"><sensor id="0" label="phone" type="{kind}">
<resolution width="40" height="30"/>
<calibration type="frame" class="adjusted"><resolution width="40" height="30"/>
<f>51</f><cx>0.5</cx><cy>0.25</cy><b1>-1</b1>
<k1>0.05</k1><k2>-0.02</k2><k3>0.01</k3><p1>0.003</p1><p2>-0.002</p2></calibration>
</sensor></sensors>
<components><component id="0"/><component id="1"/></components>
<cameras>{cameras}<camera id="9" sensor_id="0" label="lost"/>
<camera id="8" sensor_id="0" component_id="1" label="apart"><transform>{apart}</transform></camera>
</cameras></chunk></document>
"""


def write_metashape(folder, kind="frame"):
    cameras = ""
    for number in range(COUNT):
        words = " ".join(map(repr, map(float, pose(number).ravel())))
        label = f"IMG_{number}" + (".png" if number == 1 else "")
        cameras += (
            f'<camera id="{number}" sensor_id="0" component_id="0" label="{label}">'
            f"<transform>{words}</transform></camera>"
        )
        write_picture(folder / f"images/IMG_{number}.png", number)
    apart = " ".join(map(str, np.eye(4).ravel()))
    write_picture(folder / "images/apart.png", 99)
    text = METASHAPE.format(kind=kind, cameras=cameras, apart=apart)
    (folder / "cameras.xml").write_text(text)


@pytest.mark.parametrize("kind", ["frame", "fisheye"])
def test_metashape(tmp_path, kind):
    write_metashape(tmp_path, kind)
    scene = the_scene(tmp_path)
    assert {names[0]: reason for reason, names in scene.left_out.items()} == {
        "apart": "in another component than most pictures",
        "lost": "not aligned by Metashape",
    }
    scene.left_out = {}

    def project(number):
        local = (POINTS - pose(number)[:3, 3]) @ pose(number)[:3, :3]
        _, visible = pinhole(local)
        x, y = (local[visible, :2] / local[visible, 2:]).T
        if kind == "fisheye":
            r0 = np.hypot(x, y)
            x, y = x * np.arctan(r0) / r0, y * np.arctan(r0) / r0
        # The manual's appendix on camera models.
        r2 = x**2 + y**2
        radial = 1 + 0.05 * r2 - 0.02 * r2**2 + 0.01 * r2**3
        p1, p2 = 0.003, -0.002
        across = x * radial + p1 * (r2 + 2 * x**2) + 2 * p2 * x * y
        down = y * radial + p2 * (r2 + 2 * y**2) + 2 * p1 * x * y
        return np.stack([20 + 0.5 + across * 51 - across, 15 + 0.25 + down * 51], 1), visible

    check(scene, project)
    write_metashape(tmp_path, "spherical")
    with pytest.raises(ValueError, match="type spherical cannot be read; export .* COLMAP"):
        the_scene(tmp_path)


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
  <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description xcr:Version="3" xcr:PosePrior="exact" xcr:DistortionModel="brown3"
       xcr:FocalLength35mm="45" xcr:Skew="0" xcr:AspectRatio="1.02" xcr:PrincipalPointU="0.0125"
       xcr:PrincipalPointV="-0.02" xmlns:xcr="http://www.capturingreality.com/ns/xcr/1.1#">
      <xcr:Rotation>{rotation}</xcr:Rotation>
      <xcr:Position>{position}</xcr:Position>
      <xcr:DistortionCoeficients>0.05 -0.02 0.01 0 {tangential} 0</xcr:DistortionCoeficients>
    </rdf:Description>
  </rdf:RDF>
</x:xmpmeta>
"""


def write_realityscan(folder, away=(0, 0, 0), tangential=0):
    for number in range(COUNT):
        words = [" ".join(map(repr, map(float, v))) for v in
                 (rotation(number).ravel(), place(number) + away)]  # fmt: skip
        text = XMP.format(rotation=words[0], position=words[1], tangential=tangential)
        (folder / f"IMG_{number}.xmp").write_text(text)
        write_picture(folder / f"IMG_{number}.png", number)


def test_realityscan(tmp_path):
    write_realityscan(tmp_path)
    (tmp_path / "IMG_7.xmp").write_text("<x/>")  # not registered

    def project(number):
        local = (POINTS - place(number)) @ rotation(number).T
        _, visible = pinhole(local)
        x, y = (local[visible, :2] / local[visible, 2:]).T
        r2 = x**2 + y**2
        radial = 1 + 0.05 * r2 - 0.02 * r2**2 + 0.01 * r2**3
        focal = 45 / 36 * W  # the longer side is what 36 mm span
        middle = np.array([W / 2 + 0.0125 * W, H / 2 - 0.02 * W])
        return np.stack([x * radial * focal, y * radial * focal * 1.02], 1) + middle, visible

    scene = the_scene(tmp_path)
    assert list(scene.left_out.values()) == [["IMG_7"]]
    scene.left_out = {}
    check(scene, project)
    near = scene.extrinsics[:, :3, 3]
    write_realityscan(tmp_path, away=(500_000, 5_600_000, 90))  # metres on earth
    moved = the_scene(tmp_path).extrinsics[:, :3, 3]
    torch.testing.assert_close(moved - moved.mean(0), near - near.mean(0), atol=1e-5, rtol=0)
    write_realityscan(tmp_path, tangential=0.001)
    with pytest.raises(ValueError, match="is not read; export the registration as COLMAP"):
        the_scene(tmp_path)


def test_what_this_program_wrote_beside_a_splat(tmp_path):
    k = torch.tensor([[F[0] / W, 0, C[0] / W], [0, F[1] / H, C[1] / H], [0, 0, 1]])
    frames = []
    for number in range(COUNT):
        file = tmp_path / f"scene/photos/{number}.png"
        write_picture(file, number)
        matrix = torch.tensor(pose(number), dtype=torch.float32)
        frames.append(Frame(f"IMG_{number}", matrix, k, W, H, file))
    elsewhere = tmp_path / "elsewhere.png"
    write_picture(elsewhere, 9)
    frames.append(Frame("IMG_9", matrix, k, W, H, elsewhere))
    save_cameras(Cameras(frames, 1.0, 9.0), tmp_path / "scene/cameras.json")
    scene = the_scene(tmp_path / "scene")
    assert scene.left_out == {"pictures are missing": ["IMG_9"]}
    assert (scene.near, scene.far) == (1.0, 9.0)
    scene.left_out = {}
    check(scene, lambda i: pinhole((POINTS - pose(i)[:3, 3]) @ pose(i)[:3, :3]), tolerance=1e-2)


def test_one_damaged_camera_is_left_out_by_name(tmp_path):
    write_polycam(tmp_path)
    file = tmp_path / "keyframes/cameras/1001.json"
    file.write_text(file.read_text().replace('"fx": 50.0', '"fx": NaN'))
    fields = json.loads((tmp_path / "keyframes/cameras/1002.json").read_text()) | {"t_00": 5.0}
    (tmp_path / "keyframes/cameras/1004.json").write_text(json.dumps(fields))
    write_picture(tmp_path / "keyframes/images/1004.png", 0)
    (tmp_path / "keyframes/images/1000.png").unlink()
    scene = the_scene(tmp_path)
    assert scene.frame_names == ["1002"]
    reasons = {names[0]: reason for reason, names in scene.left_out.items()}
    assert "fx" in reasons["1001"] and "missing" in reasons["1000"]
    assert "no rotation" in reasons["1004"]
    write_record3d(tmp_path / "r", poses=[[0, 0, 0, 0, 1, 2, 3]] * COUNT)
    with pytest.raises(ValueError, match="no frame can be used .*quaternion"):
        the_scene(tmp_path / "r")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.json", b'{"poses": 3, "K": 4}', "poses is missing or empty"),
        ("poses_bounds.npy", b"\x93NUMPY", "damaged, or no NumPy array"),
        ("cameras.xml", b"<document><chunk>", "damaged, or no XML"),
        ("cameras.xml", b'<!DOCTYPE x [<!ENTITY a "b">]><document><chunk/>', "declares entities"),
        ("frame_annotations.jgz", b"\x1f\x8bno", "damaged, or no compressed JSON"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    folder = tmp_path / "data"
    for where in ("rgb", "images"):
        write_picture(folder / where / "0.png", 0)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        source = open_scenes(folder)
        source.scene("test", [*source.keys("test"), "?"][0])


@pytest.mark.parametrize(
    ("format", "missing"),
    [
        ("polycam", "keyframes/cameras"),
        ("record3d", "rgb/"),
        ("llff", "poses_bounds.npy"),
        ("co3d", "frame_annotations.jgz"),
        ("nerfies", "rgb/1x"),
        ("nsvf", "rgb/"),
        ("scannetpp", "ScanNet"),
        ("metashape", "XML"),
        ("chunks", "no .torch chunks"),
        ("transforms", "transforms.json"),
        ("colmap", "no COLMAP model"),
        ("dtu", "no DTU scans"),
        ("realestate10k", "no RealEstate10K"),
    ],
)
def test_a_format_that_is_said_but_not_there_is_an_error_that_says_what_is_missing(
    tmp_path, format, missing
):
    with pytest.raises((ValueError, FileNotFoundError), match=missing) as error:
        source = open_scenes(tmp_path, format)
        source.scene("test", [*source.keys("test"), "?"][0])
    assert str(tmp_path) in str(error.value)
