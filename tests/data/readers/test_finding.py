"""Pictures are found under names and at places that differ in form, and never outside."""

import json
import os
import re
import shutil
import struct
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from captures import (
    check_poses,
    pose,
    quaternion,
    write_colmap_text,
    write_picture,
    write_transforms,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsplat.__main__ import main
from mvsplat.data import AnyScenes, ColmapScenes, TransformsScenes, open_scenes
from mvsplat.data.chunks.storage import load_chunk
from mvsplat.data.readers.finding import find_pictures

POSES = [pose(seed) for seed in range(4)]


def write(kind: str, root: Path, said: str, there: str) -> Path:
    """A scene of four frames whose names are ``said.format(n)``, its pictures ``there.format(n)``.

    COLMAP's names are relative to images/, those of transforms.json to the scene.
    """
    names = [said.format(number) for number in range(4)]
    if kind == "colmap":
        names = [name.removeprefix("images/") for name in names]
        write_colmap_text(root / "sparse/0", POSES, names=names)
    else:
        write_transforms(root, POSES, pictures=False)
        content = json.loads((root / "transforms.json").read_text())
        for frame, name in zip(content["frames"], names, strict=True):
            frame["file_path"] = name
        (root / "transforms.json").write_text(json.dumps(content))
    for number in range(4):
        write_picture(root / there.format(number), number * 20)
    return root


def read(root: Path, **options):
    return open_scenes(root).scene("test", open_scenes(root).keys("test")[0])


def check_whole(scene) -> None:
    """All four frames, each with its own picture and camera."""
    assert len(scene) == 4 and not scene.left_out
    shown = [scene.image(frame).getpixel((0, 0))[0] for frame in range(4)]
    order = [round(red / 20) for red in shown]
    assert sorted(order) == [0, 1, 2, 3]
    check_poses(scene, [POSES[number] for number in order])


def guesses(caplog) -> list[str]:
    return [text for text in caplog.messages if "under another name or in another place" in text]


SAME = [
    ("images/{}.png", "images/{}.png"),
    ("./images/{}.png", "images/{}.png"),
    ("images//{}.png", "images/{}.png"),
    ("images/./{}.png", "images/{}.png"),
    ("images\\{}.png", "images/{}.png"),
    ("images/../images/{}.png", "images/{}.png"),
    ("images/{}.png ", "images/{}.png"),
    ("images/{}", "images/{}.png"),
    ("images/{}", "images/{}.jpg"),
    ("images/r_{}.5", "images/r_{}.5.png"),
    ("images/{}.png", "images_2/{}.png"),
    ("images/{}.png", "images_8/{}.png"),
    ("images/K\u00fcche {}.png", "images/Ku\u0308che {}.png"),
    ("images/Ku\u0308che {}.png", "images/K\u00fcche {}.png"),
]
SAME_IN_COLMAP = [
    ("./{}.png", "images/{}.png"),
    ("cam0//{}.png", "images/cam0/{}.png"),
    ("cam0\\{}.png", "images/cam0/{}.png"),
    ("cam0/../{}.png", "images/{}.png"),
    ("{}.png", "Images/{}.png"),
]
OTHER_FORM = [
    ("images/{}.png", "images/{}.PNG"),
    ("images/r_{}.png", "images/R_{}.png"),
    ("images/{}.JPG", "images/{}.jpeg"),
    ("images/{}.jpg", "images/{}.png"),
    ("images/{}.HEIC", "images/{}.jpg"),
    ("images/{}.CR2", "images/{}.tif"),
    ("images/{}", "images/{}.JPG"),
    ("images/{}", "images/{}.webp"),
    ("images/{}.png", "images/000{}.png"),
    ("images/frame_0000{}.png", "images/frame_{}.png"),
    ("images/frame_0000{}.png", "images/FRAME_0{}.JPG"),
    ("images/a%20b%20{}.png", "images/a b {}.png"),
    ("images/a b {}.png", "images/a%20b%20{}.png"),
    ("images/\u00c9 {}.png", "images/e\u0301 {}.PNG"),
]
OTHER_PLACE = [
    ("images/images/{}.png", "images/{}.png"),
    ("images/input/{}.png", "images/{}.png"),
    ("/home/someone/capture/images/{}.png", "images/{}.png"),
    ("/home/someone/capture/images/{}.JPG", "images/{}.png"),
    ("C:\\Users\\me\\capture\\images\\{}.png", "images/{}.png"),
    ("C:/Users/me/capture/images/{}.png", "images_4/{}.png"),
    ("\\\\server\\share\\images\\{}.png", "images/{}.png"),
    ("file:///home/someone/images/{}.png", "images/{}.png"),
    ("../other/images/{}.png", "images/{}.png"),
    ("../../x/{}.png", "images/{}.png"),
    ("images/{}.png", "photos/{}.png"),
    ("images/{}.png", "input/{}.png"),
    ("images/{}.png", "rgb/{}.png"),
    ("images/{}.png", "resized_images/{}.png"),
    ("images/{}.png", "{}.png"),
    ("images/{}.png", "../images/{}.png"),
    ("images/{}.png", "../photos/{}.JPG"),
    ("images/cam0/{}.png", "rgb/cam0/{}.png"),
    ("images/cam0/{}.png", "images/{}.png"),
]


@pytest.mark.parametrize(
    ("kind", "said", "there"),
    [
        *(("transforms", *pair) for pair in SAME),
        *(("colmap", *pair) for pair in SAME if re.match("images/[^/.]", pair[0])),
        *(("colmap", *pair) for pair in SAME_IN_COLMAP),
    ],
)
def test_names_that_mean_the_same_are_found_silently(tmp_path, kind, said, there, caplog):
    check_whole(read(write(kind, tmp_path / "door", said, there)))
    assert not guesses(caplog)


@pytest.mark.parametrize("kind", ["colmap", "transforms"])
@pytest.mark.parametrize(("said", "there"), OTHER_FORM + OTHER_PLACE)
def test_guesses_are_said_once_a_scene_with_count_and_example(tmp_path, kind, said, there, caplog):
    scene = read(write(kind, tmp_path / "door", said, there))
    check_whole(scene)
    (line,) = guesses(caplog)
    assert "door: 4 pictures are" in line and "is taken from" in line
    assert list(scene.notes) == [line.removeprefix("door: ")]
    # What leads elsewhere is no part of a frame's name.
    assert not any(name.startswith(("/", "..", "C:")) for name in scene.frame_names)


@pytest.mark.parametrize("folder", ["shots of the door", "Images", "DCIM", "data/images"])
def test_any_folder_of_a_colmap_scene_may_have_the_pictures(tmp_path, folder):
    check_whole(read(write("colmap", tmp_path / "door", "{}.png", folder + "/{}.png")))


@pytest.mark.parametrize(
    "model", ["sparse/0", "recon/sparse/0", "colmap/sparse/0", "recon", "colmap"]
)
@pytest.mark.parametrize("folder", ["images", "resized_images", "."])
def test_pictures_beside_and_above_the_model(tmp_path, model, folder):
    root = tmp_path / "door"
    write_colmap_text(root / model, POSES)
    for number in range(4):
        write_picture(root / folder / f"{number}.png", number * 20)
    check_whole(read(root / model))
    check_whole(read(root / model.removesuffix("/sparse/0")))


def test_an_absolute_path_into_the_folder_is_no_guess(tmp_path, caplog):
    root = tmp_path / "door"
    scene = read(write("transforms", root, f"{root}/images/{{}}.png", "images/{}.png"))
    check_whole(scene)
    assert not guesses(caplog) and scene.frame_names[0] == "images/0.png"


def test_smaller_pictures_have_the_intrinsics_of_the_full_size(tmp_path):
    write_transforms(tmp_path / "a", POSES)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b/images")
    for number in range(4):
        write_picture(tmp_path / f"b/images_2/{number}.png", number, (20, 15))
    for folder in "ab":
        path = tmp_path / folder / "transforms.json"
        content = json.loads(path.read_text())
        del content["w"], content["h"]
        path.write_text(json.dumps(content))
    whole, smaller = read(tmp_path / "a"), read(tmp_path / "b")
    assert smaller.image(0).size == (20, 15)
    assert (smaller.intrinsics - whole.intrinsics).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["colmap", "transforms"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("images/3.PNG", "images/3.Png"),
        ("images/3.jpg", "images/3.webp"),
        ("images/03.png", "images/003.png"),
    ],
)
def test_two_that_fit_are_an_error_that_names_both(tmp_path, kind, one, other):
    root = write(kind, tmp_path / "door", "images/{}.png", "images/{}.png")
    (root / "images/3.png").unlink()
    write_picture(root / one, 1)
    write_picture(root / other, 2)
    with pytest.raises(ValueError, match="two pictures fit the name") as error:
        read(root)
    assert str(root / one) in str(error.value) and str(root / other) in str(error.value)
    # Copies of one picture are no question.
    (root / other).unlink()
    shutil.copy(root / one, root / other)
    if Path(one).suffix == Path(other).suffix:
        assert len(read(root)) == 4


def test_two_folders_that_fit_are_an_error_that_names_both(tmp_path):
    root = write("colmap", tmp_path / "door", "{}.png", "photos/{}.png")
    for number in range(4):
        write_picture(root / f"masks/{number}.png", 3)  # not photographs
        write_picture(root / f"input/{number}.png", 4)
    with pytest.raises(ValueError, match=r"input/0\.png and .*photos/0\.png"):
        read(root)
    assert len(ColmapScenes(str(root), images="photos", key="k").scene("test", "k")) == 4
    shutil.rmtree(root / "input")
    check_whole(read(root))


def test_what_another_frame_has_is_never_taken(tmp_path):
    """A missing picture is missing, whatever others are called."""
    names = ["a/1.png", "b/1.png", "b/1.jpg", "c/001.png"]
    for number, name in enumerate(names[1:], 1):
        write_picture(tmp_path / "images" / name, number * 20)
    (tmp_path / "images/b/1.jpg").unlink()
    write_colmap_text(tmp_path / "sparse", POSES, names=names)
    scene = read(tmp_path)
    assert scene.frame_names == ["b/1.png", "c/001.png"]
    assert scene.left_out == {"pictures are missing": ["a/1.png", "b/1.jpg"]}


def test_a_folder_beside_the_models_that_has_all_pictures(tmp_path):
    write("colmap", tmp_path / "recon", "{}.png", "../shooting/{}.png")
    check_whole(read(tmp_path / "recon"))
    (tmp_path / "shooting/3.png").unlink()
    with pytest.raises(FileNotFoundError, match="no folder of pictures"):
        read(tmp_path / "recon")


def test_one_file_does_not_serve_two_frames(tmp_path):
    for number in range(2):
        write_picture(tmp_path / f"images/{number}.png", number * 20)
    write_colmap_text(tmp_path / "sparse", POSES, names=["x/0.png", "y/0.png", "x/1.png", "1.png"])
    scene = read(tmp_path)
    assert scene.frame_names == ["1.png"]
    assert sum(map(len, scene.left_out.values())) == 3


def test_blenders_splits_are_not_mixed_up(tmp_path):
    write("transforms", tmp_path, "train/r_{}", "test/r_{}.png")
    with pytest.raises(ValueError, match=r"4 pictures are missing: train/r_0"):
        read(tmp_path)


def test_another_scenes_pictures_are_not_taken(tmp_path):
    write("colmap", tmp_path / "a", "{}.png", "nothing/{}.txt.png")
    write("colmap", tmp_path / "b", "{}.png", "images/{}.png")
    with pytest.raises(FileNotFoundError, match="no folder of pictures"):
        read(tmp_path / "a")


def test_without_any_the_error_shows_what_is_there(tmp_path):
    write("transforms", tmp_path, "images/{}.png", "images/picture_{}x.png")
    with pytest.raises(ValueError, match=r"4 pictures are missing: .*holds picture_0x\.png"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["colmap", "transforms"])
@pytest.mark.parametrize("what", ["images", "images/1.png"])
@pytest.mark.parametrize("dead", [False, True])
def test_links_are_followed_and_named(tmp_path, kind, what, dead, caplog):
    root = write(kind, tmp_path / "door", "images/{}.png", "images/{}.png")
    target = tmp_path / "elsewhere"
    shutil.move(root / what, target)
    (root / what).symlink_to(target)
    if not dead:
        check_whole(read(root))
        (line,) = [text for text in caplog.messages if "symbolic link" in text]
        assert f"door: 1 symbolic link is followed: {root / what} leads to {target}" == line
        return
    target.unlink() if target.is_file() else shutil.rmtree(target)
    if what == "images":
        with pytest.raises(ValueError, match="symbolic links lead nowhere"):
            read(root)
        return
    scene = read(root)
    ((reason, names),) = scene.left_out.items()
    assert len(scene) == 3 and "symbolic links lead nowhere" in reason and "1.png" in names[0]
    assert f"1 symbolic link is broken: {root / what} leads to {target}" in caplog.text


@pytest.mark.parametrize("kind", ["colmap", "transforms"])
def test_links_in_a_circle_are_named(tmp_path, kind, caplog):
    root = write(kind, tmp_path / "door", "images/{}.png", "images/{}.png")
    (root / "images/1.png").unlink()
    (root / "images/1.png").symlink_to(root / "images/loop.png")
    (root / "images/loop.png").symlink_to(root / "images/1.png")
    assert len(read(root)) == 3
    assert "1 symbolic link is broken" in caplog.text and "lead nowhere" in caplog.text


@pytest.mark.parametrize("reader", [ColmapScenes, TransformsScenes])
def test_links_can_be_forbidden(tmp_path, reader):
    kind = "colmap" if reader is ColmapScenes else "transforms"
    root = write(kind, tmp_path / "door", "images/{}.png", "images/{}.png")
    shutil.move(root / "images/1.png", tmp_path / "secret.png")
    (root / "images/1.png").symlink_to(tmp_path / "secret.png")
    scene = reader(str(root), follow_links=False).scene("test", "door")
    ((reason, _),) = scene.left_out.items()
    assert len(scene) == 3 and "follow_links" in reason
    assert len(reader(str(root), follow_links=True).scene("test", "door")) == 4


def test_the_scenes_own_folder_may_be_a_link(tmp_path):
    write("transforms", tmp_path / "data/door", "images/{}.png", "../images/{}.png")
    (tmp_path / "link").symlink_to(tmp_path / "data/door")
    check_whole(read(tmp_path / "link"))
    assert open_scenes(tmp_path / "link").keys("test") == ["door"]


def test_commands_find_the_same_pictures(tmp_path, capsys):
    """convert, index and a YAML's source, of a linked folder with names of another form."""
    root = write("transforms", tmp_path / "in/door", "images/{}.JPG", "images/{}.png")
    shutil.move(root / "images", tmp_path / "real")
    (root / "images").symlink_to(tmp_path / "real")
    assert main(["convert", str(tmp_path / "in"), "--output", str(tmp_path / "out"),
                 "--workers", "0", "--near", "1", "--far", "9"]) == 0  # fmt: skip
    (entry,) = load_chunk(tmp_path / "out/test/000000.torch").values()
    assert len(entry["images"]) == 4
    assert len(AnyScenes(test=[str(root)]).scene("test", "door")) == 4
    main(["index", str(root), "--output", str(tmp_path / "i.json"), "--workers", "0"])


SECRET = "secret"


@pytest.fixture(scope="module")
def guarded():
    """A scene in a folder of others', of which it must see nothing."""
    with TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        root = base / "mine/scene"
        write("transforms", root, "images/{}.png", "images/{}.png")
        for path in ("secret.png", "mine/others/images/secret.png", "mine/secrets/secret.png",
                     "mine/others/secret.png", "secret/secret.png"):  # fmt: skip
            write_picture(base / path, 9)
        (root / "images/sub").mkdir()
        yield root


_PARTS = st.sampled_from(
    ["..", ".", "", "images", "others", "secrets", "mine", "scene", "secret", "sub", "~", "C:",
     "file:", "%2e%2e", "%2F", "..%2f", "\\..", "..\\", "secret.png", "SECRET.PNG", "secret",
     "secret.jpg", "*", "\0", "\udce9", "é" * 300, "\u202e", "con", " ", "\n"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.lists(_PARTS, max_size=7), st.sampled_from(["/", "\\", "//"]), st.booleans())
def test_no_name_leads_outside(guarded, parts, separator, absolute):
    name = separator.join(parts)
    name = f"{guarded.parent.parent}/{name}" if absolute else name
    found = find_pictures([name], guarded, [guarded])
    assert not found.paths  # there is no such picture inside
    found = find_pictures([name], guarded / "images", [guarded / "images"])
    assert not found.paths
    assert [name] in found.left_out.values()


def test_names_that_lead_out_are_left_out(guarded):
    for name in (
        "../../secret.png",
        "../secrets/secret.png",
        "../others/images/secret.png",
        f"{guarded.parent}/secrets/secret.png",
        f"{guarded.parent.parent}/secret.png",
    ):
        assert (guarded / name).is_file()  # it is there to be stolen
        assert not find_pictures([name], guarded, [guarded]).paths


def test_every_folder_is_listed_once_however_many_names_there_are(tmp_path, monkeypatch):
    root = tmp_path / "door"
    for number in range(40):
        write_picture(root / f"images/{number:05d}.PNG", number)
        (root / f"photos {number}").mkdir()
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    for count in (50, 200):
        listed.clear()
        names = [f"/x/y/images/{number}.png" for number in range(count)]
        found = find_pictures([*names, "images/cam/1.png"], root, [root])
        assert len(found.paths) == 40 and len(found.left_out["pictures are missing"]) == count - 39
        assert max(map(listed.count, listed)) <= 2


def test_names_in_bytes_that_are_no_utf8(tmp_path):
    """Files that older systems wrote, named as bytes of Windows-1252."""
    (tmp_path / "images").mkdir()
    write_picture(tmp_path / "0.png", 7)
    os.rename(tmp_path / "0.png", os.fsencode(tmp_path / "images") + b"/K\xfcche 0.png")
    found = find_pictures(["images/K\u00fcche 0.png"], tmp_path, [tmp_path])
    assert len(found.paths) == 1 and not found.notes


@pytest.mark.parametrize("kind", ["text", "binary", "transforms"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_windows_1252(tmp_path, kind, form):
    """As older programs on Windows write them; the pictures' own names are Unicode."""
    names = [f"K\u00fcche \u00e9{number}.jpg" for number in range(4)]
    if kind == "transforms":
        write("transforms", tmp_path, "images/K\u00fcche \u00e9{}.jpg", "images/{}.jpg")
        path = tmp_path / "transforms.json"
        content = json.loads(path.read_text())
        path.write_bytes(json.dumps(content, ensure_ascii=False).encode("cp1252"))
    else:
        write_colmap_text(tmp_path / "sparse", POSES, names=names)
        path = tmp_path / "sparse/images.txt"
        path.write_bytes(path.read_text(encoding="utf-8").encode("cp1252"))
    if kind == "binary":
        model = write_binary(tmp_path / "sparse", names)
        assert b"K\xfcche \xe90.jpg" in model
    for number, name in enumerate(names):
        write_picture(tmp_path / "images" / unicodedata.normalize(form, name), number * 20)
    check_whole(read(tmp_path))


def write_binary(folder: Path, names: list[str]) -> bytes:
    """COLMAP's binary tables by their documentation, names in Windows-1252."""
    records = b""
    for number, (matrix, name) in enumerate(zip(POSES, names, strict=True)):
        inverse = np.linalg.inv(matrix)
        numbers = [*quaternion(inverse[:3, :3]), *inverse[:3, 3]]
        records += struct.pack("<i7di", number + 1, *numbers, 1) + name.encode("cp1252") + b"\0"
        records += struct.pack("<Q", 0)
    (folder / "images.bin").write_bytes(struct.pack("<Q", len(names)) + records)
    camera = struct.pack("<QiiQQ4d", 1, 1, 1, 40, 30, 50, 51, 20.5, 15.25)
    (folder / "cameras.bin").write_bytes(camera)
    return records
