"""What can be handed in, and what cannot, with the reason."""

import io
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mvsplat.data.chunks.chunk_scenes import pack_cameras, write_chunks
from mvsplat.reconstruction import inputs
from mvsplat.reconstruction.collecting import collect, photo_paths
from mvsplat.reconstruction.depth_range import depth_range
from mvsplat.reconstruction.inputs import open_input


@pytest.fixture
def no_estimation(monkeypatch):
    """Stop where structure from motion would begin, and show what it would get."""
    seen = []

    def estimate(collection, work, seed, progress):
        seen.append(collection)
        raise InterruptedError

    monkeypatch.setattr(inputs, "estimate_cameras", estimate)
    return seen


def test_data_with_cameras_needs_no_estimation(posed, room, tmp_path, no_estimation):
    found = open_input(posed, tmp_path)
    torch.testing.assert_close(found.scene.extrinsics, room.extrinsics, atol=1e-5, rtol=0)
    assert found.names[0] == "0.png" and not no_estimation
    assert open_input(posed / "transforms.json", tmp_path).names == found.names
    assert open_input(found.scene, tmp_path).scene is found.scene


def test_the_frames_of_bad_photos_are_dropped_by_name(photos, tmp_path, no_estimation):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photo_paths(photos)[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "copy.png").write_bytes((folder / "IMG_0.png").read_bytes())
    (folder / "diary.jpg").write_text("dear diary")
    (folder / "half.png").write_bytes((folder / "IMG_1.png").read_bytes()[:5000])
    (folder / "notes.txt").write_text("not looked at")
    with pytest.raises(InterruptedError):
        open_input(folder, tmp_path)
    (collection,) = no_estimation
    assert [photo.name for photo in collection.photos[1:]] == ["IMG_1.png", "IMG_2.png"]
    assert set(collection.dropped) == {"diary.jpg", "half.png", "IMG_0.png"}
    assert "copy.png" in collection.dropped["IMG_0.png"]
    assert "not a picture" in collection.dropped["diary.jpg"]
    assert "damaged" in collection.dropped["half.png"]


def test_python_lists_of_pictures(room, photos, tmp_path, no_estimation):
    listed = [room.image(0), np.asarray(room.image(1)), photos / "IMG_2.png"]
    with pytest.raises(InterruptedError):
        open_input(listed, tmp_path)
    names = [photo.name for photo in no_estimation[0].photos]
    assert names == ["photo_000", "photo_001", "IMG_2.png"]
    with pytest.raises(ValueError, match="photo 0 is an array"):
        open_input([np.zeros((4, 4))], tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        open_input(["nowhere.png"], tmp_path)


def test_large_photos_are_reduced_and_numbered_names_are_in_order(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((4000, 3000)).save(tmp_path / "a10.jpg")
    Image.fromarray(noise[::-1]).resize((400, 300)).save(tmp_path / "a9.jpg")
    collection = collect(photo_paths(tmp_path), tmp_path / "out")
    assert [(p.name, p.width, p.height) for p in collection.photos] == [
        ("a9.jpg", 400, 300),
        ("a10.jpg", 1600, 1200),
    ]
    with Image.open(tmp_path / "out" / collection.photos[0].file) as image:
        assert not image.getexif()


def test_a_scene_of_several(room, tmp_path):
    pictures = []
    for index in range(3):
        data = io.BytesIO()
        room.image(index).save(data, format="PNG")
        pictures.append(torch.frombuffer(bytearray(data.getvalue()), dtype=torch.uint8))
    cameras = pack_cameras(room.extrinsics[:3], room.intrinsics[:3])
    scenes = [{"key": key, "cameras": cameras, "images": pictures} for key in ("one", "two")]
    write_chunks(tmp_path / "chunks" / "test", scenes)
    found = open_input(tmp_path / "chunks", tmp_path)
    assert found.scene.key == "one" and "2 scenes" in found.notes[0]
    assert open_input(tmp_path / "chunks", tmp_path, scene="two").scene.key == "two"
    assert len(open_input(tmp_path / "chunks/test/000000.torch", tmp_path).scene) == 3
    with pytest.raises(ValueError, match="no scene 'attic'"):
        open_input(tmp_path / "chunks", tmp_path, scene="attic")


@pytest.mark.parametrize(
    "arrange, message",
    [
        (lambda folder: None, "holds no photos"),
        (lambda folder: Image.new("RGB", (99, 99)).save(folder / "a.png"), "one can be used"),
        (
            lambda folder: [
                Image.new("RGB", (99, 99)).save(folder / f"{i}.png") for i in range(20)
            ],
            "all 20 show the same picture",
        ),
        (lambda folder: (folder / "a.jpg").write_text("dear diary"), "none can be used"),
        (lambda folder: (folder / "walk.mp4").write_text(""), "did you mean .*walk.mp4"),
    ],
)
def test_folders_without_two_usable_photos(tmp_path, arrange, message):
    folder = tmp_path / "photos"
    folder.mkdir()
    arrange(folder)
    with pytest.raises(ValueError, match=message) as error:
        open_input(folder, tmp_path / "work")
    assert "photos" in str(error.value)


def test_files_that_are_nothing_of_the_kind(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_input(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="a single photo"):
        open_input(photos / "IMG_0.png", tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(
        ValueError,
        match="a.txt is nothing to reconstruct: expected a folder of photos .*video .*COLMAP",
    ):
        open_input(tmp_path / "a.txt", tmp_path)


def test_bounds_from_pictures_hold_the_rooms_depths(posed, room, tmp_path):
    source = open_input(posed, tmp_path)
    found = depth_range(source.scene, None, None, (1.0, 100.0))
    assert found.bounds.origin == "pictures" and len(found.points) > 100
    depths = np.concatenate([room.depth(index).ravel() for index in range(len(room))])
    near, far = np.percentile(depths[depths > 0], [1, 99])
    assert near / 1.5 < found.bounds.near < 1.5 * near
    assert far < found.bounds.far < 3 * far
    partly = depth_range(source.scene, 0.5, None, (1.0, 100.0)).bounds
    assert partly == (0.5, found.bounds.far, "pictures")
    with pytest.raises(ValueError, match="near is 500"):
        depth_range(source.scene, 500.0, None, (1.0, 100.0))


def test_bounds_as_the_user_says(posed, tmp_path):
    source = open_input(posed, tmp_path)
    assert depth_range(source.scene, 2.0, 9.0, (1.0, 100.0)).bounds[:2] == (2.0, 9.0)
    with pytest.raises(ValueError, match="near"):
        depth_range(source.scene, 9.0, 2.0, (1.0, 100.0))


def test_cameras_that_only_turn_have_the_models_usual_bounds(posed, tmp_path):
    source = open_input(posed, tmp_path)
    source.scene.extrinsics = source.scene.extrinsics.clone()
    source.scene.extrinsics[:, :3, 3] = 0
    assert depth_range(source.scene, None, None, (1.0, 100.0)).bounds[:2] == (1.0, 100.0)


def nearly_colmap(folder, *names):
    for name in names:
        (folder / "sparse/0").mkdir(parents=True, exist_ok=True)
        (folder / "sparse/0" / name).write_text("1")


@pytest.mark.parametrize(
    "arrange, message",
    [
        (lambda p: (p / "transforms.json").rename(p / "transform_train.json"), "transform_train"),
        (lambda p: (p / "transforms.json").rename(p / "Transforms.json"), "did you mean Transf"),
        (lambda p: (p / "transforms.json").rename(p / "poses.json"), "did you mean poses.json"),
        (lambda p: (p / "transforms.json").rename(p / "transforms.json.bak"), "rename it to tr"),
        (lambda p: nearly_colmap(p, "cameras.bin", "images.txt"), "cameras.bin, images.txt, but"),
        (lambda p: nearly_colmap(p, "images.txt", "points3D.txt"), "no cameras.bin or cameras.txt"),
        (lambda p: nearly_colmap(p, "cameras.bin"), "no images.bin or images.txt"),
        (lambda p: nearly_colmap(p, "Cameras.bin", "Images.bin"), "in lower case"),
        (lambda p: (p / "metadata.json").write_text('{"K": 1, "poses": 2}'), "is Record3D's, but"),
        (lambda p: (p / "a.nvm").write_text("NVM_V3\n"), "VisualSFM's, which is not read: export"),
        (lambda p: (p / "reg.csv").write_text("#name,x,y,alt,heading\n"), "RealityScan's"),
        (lambda p: (p / "IMG.xmp").write_text('<x xcr:Rotation="1 0"/>'), "RealityScan's XMP"),
        (lambda p: (p / "scan.psx").write_text(""), "Metashape's project"),
        (lambda p: (p / "reconstruction.json").write_text('[{"shots": {}}]'), "OpenSfM's"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_cameras_that_are_nearly_there_are_never_estimated(
    posed, tmp_path, no_estimation, arrange, message, inside
):
    folder = tmp_path / "capture"
    shutil.copytree(posed, folder)
    arrange(folder)
    if "transforms.json" not in message:
        (folder / "transforms.json").unlink(missing_ok=True)
    if inside:
        (folder / "images").mkdir()
        for file in folder.glob("*.png"):
            file.rename(folder / "images" / file.name)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        open_input(folder, tmp_path)
    assert "--format photos" in str(error.value) and not no_estimation
    photos = folder / "images" if inside else folder
    with pytest.raises(InterruptedError):
        open_input(photos, tmp_path / "work", format="photos")
    if inside:
        with pytest.raises(InterruptedError):
            open_input(photos, tmp_path / "work2")


def test_what_lies_beside_photos_is_neither_a_photo_nor_a_data_set(photos, tmp_path, no_estimation):
    folder = tmp_path / "mine"
    shutil.copytree(photos, folder)
    for name in (".DS_Store", "._IMG_0.png", "Thumbs.db", "desktop.ini", "README.md", "notes.txt"):
        (folder / name).write_text("no photo")
    (folder / "notes.json").write_text('{"frames": "many", "weather": "fine"}')
    (folder / "images.txt").write_text("IMG_0.png\n")
    (folder / "prices.csv").write_text("name,price\n")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX/transforms.json").write_text("{}")
    with pytest.raises(InterruptedError):
        open_input(folder, tmp_path)
    (collection,) = no_estimation
    assert len(collection.photos) == len(list(photos.iterdir())) and not collection.dropped


def test_photos_beside_their_cameras_say_so(posed, room, tmp_path, monkeypatch):
    folder = tmp_path / "capture"
    shutil.copytree(posed, folder / "images")
    (folder / "images/transforms.json").unlink()
    shutil.copy(posed / "transforms.json", folder)
    found = inputs.SceneInput(room, [], "photos")
    monkeypatch.setattr(inputs, "_without_cameras", lambda *arguments: found)
    (note,) = open_input(folder / "images", tmp_path).notes
    assert f"{folder} has cameras of its own (transforms)" in note
    # Cameras somewhere below are no reason to refuse photos that lie above them.
    plain = tmp_path / "plain"
    shutil.copytree(folder / "images", plain)
    nearly_colmap(plain / "old", "images.txt")
    assert open_input(plain, tmp_path) is found


def test_scenes_that_cannot_be_used_do_not_hide_the_others(posed, tmp_path):
    folder = tmp_path / "captures"
    shutil.copytree(posed, folder / "b")
    for name in ("a", "c"):
        (folder / name).mkdir()
        (folder / name / "transforms.json").write_text('{"frames": ')
    found = open_input(folder, tmp_path)
    assert len(found.names) == 8
    assert any("a/transforms.json is no valid JSON" in note for note in found.notes)
    shutil.rmtree(folder / "b")
    with pytest.raises(ValueError, match="none of its 2 scenes can be used"):
        open_input(folder, tmp_path)


def test_photos_beside_scenes_in_subfolders_say_so(posed, photos, tmp_path, no_estimation):
    folder = tmp_path / "trip"
    shutil.copytree(photos, folder)
    shutil.copytree(posed, folder / "door")
    found = open_input(folder, tmp_path)
    assert f"{len(list(photos.iterdir()))} photos, too" in found.notes[0] and not no_estimation
    with pytest.raises(InterruptedError):
        open_input(folder, tmp_path, format="photos")


def test_photos_far_below_are_named(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "phone/backup/DCIM/100APPLE")
    with pytest.raises(ValueError, match="did you mean .*backup/DCIM/100APPLE") as error:
        open_input(tmp_path / "phone", tmp_path)
    for taken in (".jpg", ".mp4", "COLMAP", "Polycam", "RealEstate10K", "transforms.json"):
        assert taken in str(error.value)


def test_a_format_can_be_said(posed, tmp_path):
    assert len(open_input(posed, tmp_path, format="transforms").scene) > 2
    with pytest.raises(FileNotFoundError, match="no COLMAP model"):
        open_input(posed, tmp_path, format="colmap")
    with pytest.raises(ValueError, match="did you mean 'colmap'"):
        open_input(posed, tmp_path, format="colmpa")
    with pytest.raises(ValueError, match="no folder of photos"):
        open_input(posed / "transforms.json", tmp_path, format="photos")
