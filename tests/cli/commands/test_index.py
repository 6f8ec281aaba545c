"""``mvsplat index``: from data to an index, a contact sheet, and a test on them."""

import json
import re
from io import BytesIO
from pathlib import Path

import pytest
import torch
import wall
from PIL import Image

from mvsplat.__main__ import main
from mvsplat.cli.commands.index import index, summary
from mvsplat.data.chunks.chunk_scenes import pack_cameras, write_chunks
from mvsplat.data.evaluation_index.context_choice import NearestViews, WholeScene
from mvsplat.data.evaluation_index.context_stretches import FrameGaps, OverlapTiers
from mvsplat.data.evaluation_index.index_file import read_evaluation_index


def picture(color):
    buffer = BytesIO()
    Image.new("RGB", (40, 30), color).save(buffer, "PNG")
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def entry(key, frames=9, step=0.2):
    """A scene whose camera goes sideways; neighbours overlap by 1 - step / depth."""
    extrinsics = torch.eye(4).repeat(frames, 1, 1)
    extrinsics[:, 0, 3] = step * torch.arange(frames)
    intrinsics = torch.eye(3).repeat(frames, 1, 1)
    intrinsics[:, :2, 2] = 0.5
    return {
        "key": key,
        "cameras": pack_cameras(extrinsics, intrinsics),
        "images": [picture((20 * frame, 0, 0)) for frame in range(frames)],
        "near": 2.0,
        "far": 4.0,
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five scenes in two chunks: three that do, one too short, one whose camera stays."""
    root = tmp_path_factory.mktemp("data")
    scenes = [entry("a"), entry("b"), entry("short", 3), entry("still", step=0.0), entry("ü c")]
    write_chunks(root / "test", scenes, chunk_bytes=2500)
    assert len(list((root / "test").glob("*.torch"))) > 1
    return root


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """The program in a folder of its own; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        try:
            code = main(["index", *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code or 0
        return code, *capsys.readouterr()

    return call


def test_an_index_and_its_contact_sheet(data, run, tmp_path):
    code, out, _ = run(data, "--workers", 0)
    assert code == 0
    assert "from 3 scenes" in out and "large: 3 entries, overlap 0." in out
    assert "1 too few frames" in out and "1 no parallax: the camera stays in one place" in out
    entries = read_evaluation_index(tmp_path / "evaluation_index.json")
    assert entries["short"] is None and entries["still"] is None
    used = {name: found for name, found in entries.items() if found is not None}
    assert {found.scene for found in used.values()} == {"a", "b", "ü c"}
    assert {"a_00", "ü c_00"} <= set(used)
    for found in used.values():
        gap = found.context[1] - found.context[0]
        # The mean over depths from 2 to 4, even in their logarithm, of 1 - 0.2 gap / depth; the
        # crop to 256 x 256 takes three quarters of the pictures' width.
        truth = max(0, 1 - 0.2 * gap / 0.75 * (1 / 2 - 1 / 4) / torch.tensor(2.0).log())
        assert found.overlap == pytest.approx(float(truth), abs=0.05)
    with Image.open(tmp_path / "evaluation_index.png") as sheet:
        assert sheet.width > 500 and sheet.height > 100 * len(used)


def test_neither_workers_nor_other_scenes_matter_but_the_seed_does(data, tmp_path):
    names = [str(tmp_path / f"{number}.json") for number in range(4)]
    first = index(str(data), names[0], workers=0, rows=0)
    second = index(str(data), names[1], workers=2, rows=0)
    assert Path(names[0]).read_bytes() == Path(names[1]).read_bytes()
    assert first.entries == second.entries
    assert index(str(data), names[2], workers=0, rows=0, seed=1).entries != first.entries
    only = tmp_path / "only"
    write_chunks(only / "test", [entry("b")])
    alone = index(str(only), names[3], workers=0, rows=0).entries
    assert alone == {name: e for name, e in first.entries.items() if e and e.scene == "b"}
    assert not list(tmp_path.glob("*.png"))


def test_a_single_run_is_called_as_its_scene(data, run, tmp_path):
    code, _, _ = run(
        data, "--choice.tiers", "{wide: [0.1, 0.6]}", "--choice.targets", "2", "--output", "i.json"
    )
    assert code == 0
    content = json.loads((tmp_path / "i.json").read_text(encoding="utf-8"))
    assert list(content) == ["a", "b", "short", "still", "ü c"]
    assert set(content["a"]) == {"context", "target", "overlap", "tier"}


def test_names_that_would_collide_are_refused(tmp_path):
    write_chunks(tmp_path / "test", [entry("a"), entry("a_00")])
    choice = FrameGaps(gaps=[5, 6])
    report = index(str(tmp_path), str(tmp_path / "i.json"), choice, rows=0, workers=0)
    assert {"a_00", "a_01", "a_00_00", "a_00_01"} == set(report.entries)
    write_chunks(tmp_path / "more" / "test", [entry("a"), entry("a_00", frames=3)])
    with pytest.raises(ValueError, match="two entries would be called 'a_00'"):
        index(str(tmp_path / "more"), str(tmp_path / "j.json"), choice, rows=0, workers=0)


def test_damaged_scenes_are_left_out_and_named(tmp_path, run):
    broken = entry("broken")
    broken["cameras"][3, 6:] = float("nan")
    write_chunks(tmp_path / "test", [entry("a"), entry("broken")])
    torch.save([entry("a"), broken], tmp_path / "test" / "000000.torch")
    code, out, _ = run(tmp_path, "--workers", 0)
    assert code == 0 and "1 damaged" in out and "scene 'broken'" in out
    assert read_evaluation_index("evaluation_index.json")["broken"] is None


def test_an_existing_index_is_kept(data, run, tmp_path):
    (tmp_path / "evaluation_index.json").write_text("mine")
    code, _, err = run(data)
    assert code == 2 and "is there already" in err and "--overwrite" in err
    assert (tmp_path / "evaluation_index.json").read_text() == "mine"
    code, _, _ = run(data, "--overwrite", "--workers", 0, "--rows", 0)
    assert code == 0 and (tmp_path / "evaluation_index.json").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no file or folder nowhere"),
        (["DATA", "--output", "index.txt"], "expected a name that ends in .json"),
        (["DATA", "--split", "train"], "no train scenes"),
        (["DATA", "--evidence", "depth"], "no scene can be used: .*has no depth"),
        (["DATA", "--choice.tiers", "{all: [0.98, 1]}"], "context views overlap by"),
        (["DATA", "--choice.context_views", "1"], "context_views is 1; it must be at least 2"),
        (["DATA", "--choice", "NearestView"], "did you mean NearestViews"),
        (["DATA", "--choice.targets", "some"], "choice.targets"),
        (["DATA", "--rows", "-1"], "cannot be negative"),
        ([], "source"),
    ],
)
def test_mistakes_are_said_in_short(data, run, arguments, message):
    code, _, err = run(*[str(data) if word == "DATA" else word for word in arguments])
    assert code == 2 and len(err.splitlines()) <= 6
    assert re.search(message, err), err


def test_tests_on_an_index_are_grouped_by_tier(program, tmp_path):
    assert program("fit", "--trainer.max_steps=1", "--trainer.limit_val_batches=0") == 0
    root = next(program.scenes.glob("*/manifest.json")).parent
    # Two tiers and two numbers of context views in one index.
    choice = {"two": FrameGaps(2, 2, [4, 5]), "three": FrameGaps(3, 2, [5])}
    content = {}
    for name, of_name in choice.items():
        path = tmp_path / f"{name}.json"
        index(str(root), str(path), of_name, image_shape=(32, 32), rows=0, workers=0)
        for key, views in json.loads(path.read_text()).items():
            content[f"{key}_{name}"] = {"scene": views.get("scene", key)} | views
    (tmp_path / "index.json").write_text(json.dumps(content))
    views = ["--data.test_views", "EvaluationViewSampler"]
    views += ["--data.test_views.index_path", tmp_path / "index.json"]
    views += ["--ckpt_path=last"]
    assert program("test", *views) == 0, program.err
    scores = json.loads((program.run_dir / "test" / "scores.json").read_text())
    assert set(scores["groups"]["tier"]) == {"gap 4", "gap 5"}
    assert set(scores["scenes"]) == set(content)
    for name, result in scores["scenes"].items():
        assert result["context"] == content[name]["context"]
        assert result["overlap"] == content[name]["overlap"]
    assert program("test", *views, "--data.test_loader.batch_size", 9) == 2
    assert "set this stage's batch_size to 1" in program.err


@pytest.mark.parametrize(
    ("write", "options", "choice"),
    [
        (wall.write_colmap, {"size": (90, 120)}, WholeScene(4)),
        (wall.write_colmap, {"size": (90, 120)}, NearestViews(2)),
        (wall.write_colmap, {"size": (90, 120)}, OverlapTiers(tiers={"any": (0.2, 1.0)})),
        (wall.write_transforms, {"size": (90, 120), "k1": 0.02, "p1": 0.001}, NearestViews(2)),
        (wall.write_chunk, {"size": (160, 90)}, OverlapTiers(tiers={"any": (0.2, 1.0)})),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_captures_of_any_format(write, options, choice, tmp_path):
    source, path = write(tmp_path / "wall", 12, **options), tmp_path / "index.json"
    report = index(str(source), str(path), choice, image_shape=(64, 64), workers=0, rows=1)
    entries = [entry for entry in report.entries.values() if entry]
    assert entries and "overlap 0." in "\n".join(summary(report))
    for found in entries:
        gaps = [b - a for a, b in zip(sorted(found.context), sorted(found.context)[1:])]
        # Of every format, the square crop is 90 pixels wide.
        truth = wall.overlap(max(gaps), 90)
        if write is wall.write_colmap:
            assert found.overlap == pytest.approx(truth, abs=0.05), found
        else:
            # Bounds that are estimated from pictures leave room, most of it behind the wall.
            assert truth < found.overlap < wall.overlap(max(gaps), 90, 2 * wall.DEPTH), found
    with Image.open(path.with_suffix(".png")) as sheet:
        assert sheet.width > 200 and sheet.height > 60
