"""What the viewer finds in files and folders, and what it says where it finds nothing."""

import gzip
import json
import struct

import pytest
from viewer_scenes import LENS, make_gaussians, make_poses, write_run

from mvsplat.evaluation.photo_scores import PhotoScores, save_photo_scores
from mvsplat.export import save_cameras, save_ply, save_splat
from mvsplat.export.cameras import Cameras, Frame
from mvsplat.viewer import find_items


def glb(content: dict) -> bytes:
    """A binary glTF file with nothing but its JSON."""
    text = json.dumps(content).encode()
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


def test_a_run_has_scenes_with_cameras_scores_and_sheets(tmp_path):
    run = write_run(tmp_path / "run", {"b": 1, "a": 2})
    (run / "predictions" / ".c.123.tmp.ply").touch()  # of a prediction that is running
    items = find_items([run])
    assert [(item.result, item.scene) for item in items] == [("run", "a"), ("run", "b")]
    assert items[0].cameras == run / "predictions" / "a.cameras.json"
    assert items[0].sheet == run / "test" / "sheets" / "a.png"
    assert items[0].scores == {"psnr": 22.0}


def test_a_run_without_a_test_or_with_half_a_file_of_scores(tmp_path):
    run = write_run(tmp_path / "run", {"a": 1})
    for content in ("{", "[]", '{"scenes": 3}', '{"scenes": {"a": {"scores": null}}}'):
        (run / "test" / "scores.json").write_text(content)
        assert find_items([run])[0].scores == {}


def test_a_reconstruction_is_called_by_its_folder(tmp_path):
    folder = tmp_path / "door"
    save_ply(make_gaussians(0), folder / "scene.ply")
    frame = Frame("one", make_poses(1)[0], LENS, 64, 48)
    save_cameras(Cameras([frame], 1.0, 100.0), folder / "cameras.json")
    (item,) = find_items([folder])
    assert (item.result, item.scene) == ("door", "door")
    assert item.cameras == folder / "cameras.json" and item.scores == {}
    before, after = (
        {"IMG_3.jpg": PhotoScores({"psnr": psnr, "ssim": 0.5}, 64, 48)} for psnr in (10.0, 20.0)
    )
    save_photo_scores(before, after, True, folder / "scores.json")
    assert find_items([folder])[0].scores == {"psnr": 20.0, "ssim": 0.5}
    save_photo_scores(before, before, False, folder / "scores.json")
    assert find_items([folder])[0].scores["psnr"] == 10.0
    save_photo_scores({}, None, False, folder / "scores.json")
    assert find_items([folder])[0].scores == {}


def test_a_folder_of_pictures_is_called_by_its_name(tmp_path):
    save_splat(make_gaussians(0), tmp_path / "door" / "meta.json")
    save_cameras(Cameras([Frame("one", make_poses(1)[0], LENS, 64, 48)], 1.0, 100.0),
                 tmp_path / "door" / "cameras.json")  # fmt: skip
    (item,) = find_items([tmp_path / "door"])
    assert (item.scene, item.ply) == ("door", tmp_path / "door" / "meta.json")
    assert item.cameras is not None
    save_splat(make_gaussians(0), tmp_path / "both" / "a.compressed.ply")
    (tmp_path / "door" / "cameras.json").rename(tmp_path / "both" / "a.cameras.json")
    (item,) = find_items([tmp_path / "both"])
    assert item.cameras == tmp_path / "both" / "a.cameras.json"


def test_results_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "z.ply"]
    for path in paths[:2]:
        write_run(path, {"a": 1})
    save_ply(make_gaussians(0), paths[2])
    assert [item.result for item in find_items(paths)] == ["x/run", "y/run", "z.ply"]
    assert len({item.result for item in find_items([paths[2], paths[2], paths[0]])}) == 2


def test_what_cannot_be_looked_at_is_named_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder at .*nothing"):
        find_items([tmp_path / "nothing"])
    with pytest.raises(ValueError, match=r"has no splat, nor has its folder predictions"):
        find_items([tmp_path])
    save_ply(make_gaussians(0), tmp_path / "point_cloud" / "iteration_7000" / "point_cloud.ply")
    save_ply(make_gaussians(0), tmp_path / "point_cloud" / "iteration_30000" / "point_cloud.ply")
    with pytest.raises(ValueError, match=r"did you mean .*iteration_30000/point_cloud\.ply"):
        find_items([tmp_path])
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match=r"mvsplat predict --config .*config\.yaml"):
        find_items([tmp_path])
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"is a checkpoint.*mvsplat reconstruct PHOTOS"):
        find_items([tmp_path / "last.ckpt"])
    with pytest.raises(ValueError, match="nothing to look at"):
        find_items([])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.splat", bytes(321), "has 321 bytes, expected 32 for every Gaussian"),
        ("x.ksplat", bytes(320), "is damaged, or no .ksplat file: it has 320 bytes"),
        (
            "x.spz",
            gzip.compress(b"NGSP" + bytes(20), mtime=0),
            "is of version 0 of .spz; versions 1 to 4",
        ),
        ("x.sog", b"PK", "is damaged, or no .sog file"),
        ("x.lcc", b"any", "is an .lcc file.*as PLY.*splat-transform x.lcc scene.ply"),
        ("x.glb", glb({"extensionsUsed": ["KHR_gaussian_splatting"]}), "glTF file without Gauss"),
        ("x.glb", glb({"meshes": []}), "glTF file without Gaussians.*mvsplat reconstruct"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path, name, content, message, caplog):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ValueError, match=message):
            find_items([path])
    disguised = tmp_path / "scene.ply"
    if name.endswith((".spz", ".glb")):
        disguised.write_bytes(content)
        message = "file of another name: rename it to scene.(spz|glb)"
        with pytest.raises(ValueError, match=message):
            find_items([disguised])
    save_ply(make_gaussians(0), disguised)
    assert [item.ply for item in find_items([tmp_path])] == [disguised]
    assert f"left out: {tmp_path / name}" in caplog.text


def test_a_ply_file_of_another_name_is_a_ply_file(tmp_path):
    save_ply(make_gaussians(0), tmp_path / "scene.ply")
    (tmp_path / "scene.ply").rename(tmp_path / "SCENE.bin")
    assert len(find_items([tmp_path / "SCENE.bin"])) == 1


def test_many_that_cannot_be_read_are_listed_in_a_few_lines(tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.ply").write_bytes(b"ply")
    with pytest.raises(ValueError) as error:
        find_items([tmp_path])
    lines = str(error.value).splitlines()
    assert len(lines) == 5 and "3.ply is damaged" in lines[3] and lines[4] == "... and 5 more"
