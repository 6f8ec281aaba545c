"""Scenes that cannot be used: training goes on without them, tests say that they are incomplete."""

import json
import logging

import pytest
import torch
from tiny_scenes import make_entry

from mvsplat.data.chunks.chunk_scenes import write_chunks
from mvsplat.evaluation import load_results

KEYS = ("ee", "ff", "gg")


def entry(key, **changes):
    return make_entry(key, frames=7, size=(32, 32)) | changes


@pytest.fixture
def data(tmp_path):
    """Three scenes, the same for training and testing; a picture of ff is damaged."""
    root = tmp_path / "data"
    for split in ("train", "test"):
        entries = [entry(key) for key in KEYS]
        entries[1]["images"] = [image[: len(image) // 2] for image in entries[1]["images"]]
        write_chunks(root / split, entries)
    return root


@pytest.fixture
def run(program, tiny_config, data):
    def start(command, *arguments):
        source = ["--data.source=ChunkScenes", f"--data.source.roots={data}"]
        own = ["--config", str(tiny_config), f"--run_dir={program.run_dir}", *source]
        return program(command, *own, *arguments, config=False)

    return start


@pytest.fixture
def weights(run, program):
    """Weights; how they were trained does not matter."""
    assert run("fit", "--trainer.max_steps=1", "--trainer.limit_val_batches=0") == 0, program.err
    return "--ckpt_path=last"


def scores(program):
    return json.loads((program.run_dir / "test" / "scores.json").read_text())


def test_training_goes_on_without_the_damaged_scene_and_names_it(run, program, caplog):
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        assert run("fit", "--trainer.max_steps=6", "--data.val_scenes=3") == 0, program.err
    assert program.checkpoint().is_file()
    assert "train: skipped ff: damaged" in caplog.text and "'ff': image" in caplog.text
    assert "damaged (ff)" in caplog.text


def test_training_ends_where_nothing_is_left_and_lists_it(run, program, data):
    write_chunks(data / "more" / "test", [entry("tt")])
    write_chunks(
        data / "more" / "train", [entry(k, images=[torch.zeros(9).byte()] * 7) for k in KEYS]
    )
    assert run("fit", f"--data.source.roots={data / 'more'}") == 2
    for key in KEYS:
        assert key in program.err
    assert "no usable scene" in program.err and "cannot be decoded" in program.err


def test_a_test_leaves_a_damaged_scene_out_and_says_that_it_is_incomplete(run, program, weights):
    assert run("test", weights) == 0, program.err
    found = scores(program)
    assert list(found["scenes"]) == ["ee", "gg"] and found["scenes_tested"] == 2
    assert found["complete"] is False and list(found["left_out"]) == ["ff"]
    assert found["left_out"]["ff"]["reason"] == "damaged"
    assert "scene 'ff': image" in found["left_out"]["ff"]["detail"]
    assert "Mean over 2 scenes" in program.out and "(incomplete)" in program.out
    assert "INCOMPLETE: 1 scene left out: ff (damaged)" in program.out


def test_a_test_of_whole_scenes_is_complete(run, program, weights, data, tmp_path):
    (tmp_path / "i.json").write_text(json.dumps({"ee": {"context": [0, 6], "target": [2]}}))
    index = [
        "--data.test_views=EvaluationViewSampler",
        f"--data.test_views.index_path={tmp_path}/i.json",
    ]
    assert run("test", weights, *index) == 0, program.err
    assert scores(program)["complete"] is True and "INCOMPLETE" not in program.out


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_other_commands_leave_it_out_too(run, program, weights, command, caplog):
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        assert run(command, weights, "--data.val_scenes=3", "--predictions.films=[]") == 0, (
            program.err
        )
    assert "INCOMPLETE" in caplog.text and "1 damaged (ff)" in caplog.text
    if command == "predict":
        written = {path.stem for path in (program.run_dir / "predictions").glob("*.ply")}
        assert written == {"ee", "gg"}


def test_a_test_that_cannot_use_any_scene_fails(run, program, weights, data):
    write_chunks(data / "no" / "test", [entry(k, images=[torch.zeros(9).byte()] * 7) for k in KEYS])
    assert run("test", weights, f"--data.source.roots={data / 'no'}") == 2
    assert "3 damaged" in program.err and "ee" in program.err


GOOD = {"context": [0, 6], "target": [2]}
INDICES = {
    "beyond": ({"ee": GOOD, "gg": GOOD | {"target": [7]}}, "frame 7"),
    "negative": ({"ee": GOOD, "gg": GOOD | {"context": [-1, 6]}}, "[-1, 6]"),
    "absent": ({"ee": GOOD, "gg.mp4": GOOD}, ""),
}


@pytest.mark.parametrize("name", INDICES)
def test_a_bad_entry_of_an_index_makes_results_incomplete(run, program, weights, tmp_path, name):
    index, detail = INDICES[name]
    (tmp_path / "index.json").write_text(json.dumps(index))
    views = ["--data.test_views=EvaluationViewSampler"]
    views += [f"--data.test_views.index_path={tmp_path / 'index.json'}"]
    assert run("test", weights, *views, "--trainer.enable_progress_bar=true") == 0, program.err
    found = scores(program)
    assert list(found["scenes"]) == ["ee"] and not found["complete"]
    (left_out,) = found["left_out"].items()
    assert left_out[0] == list(index)[1] and detail in left_out[1]["detail"]
    assert "INCOMPLETE" in program.out


def test_odd_views_of_an_index_are_remarked_on_and_count_once(
    run, program, weights, tmp_path, caplog
):
    index = {"ee": GOOD | {"target": [0]}, "gg": GOOD | {"target": [3, 3]}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    views = ["--data.test_views=EvaluationViewSampler"]
    views += [f"--data.test_views.index_path={tmp_path / 'index.json'}"]
    with caplog.at_level(logging.WARNING, "mvsplat.data"):
        assert run("test", weights, *views) == 0, program.err
    assert "targets that are context views (ee: frame 0)" in caplog.text
    assert "target twice, which counts once (gg: frame 3)" in caplog.text
    assert scores(program)["scenes"]["gg"]["target"] == [3] and scores(program)["complete"]


def test_a_foreign_index_is_refused_with_names_of_both_sides(run, program, weights, tmp_path):
    index = {"aa.mp4": GOOD, "re10k/bb": GOOD, "cc": GOOD}
    (tmp_path / "index.json").write_text(json.dumps(index))
    views = ["--data.test_views=EvaluationViewSampler"]
    views += [f"--data.test_views.index_path={tmp_path / 'index.json'}"]
    assert run("test", weights, *views) == 2
    assert "3 not in the evaluation index (ee, ff, ...)" in program.err
    assert "but not in the data (aa.mp4, re10k/bb, ...)" in program.err
    assert "{" not in program.err


def test_compare_says_which_run_is_incomplete(run, program, weights, tmp_path):
    assert run("test", weights) == 0
    assert run("test", weights, "--results.folder=whole", "--data.max_field_of_view=null") == 0
    path = program.run_dir / "whole" / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"left_out": {}, "complete": True}))
    folders = [program.run_dir / "test", program.run_dir / "whole"]
    assert program("compare", *folders, "--output", tmp_path / "out", config=False) == 0
    assert "INCOMPLETE: test: 1 scene left out: ff (damaged)" in program.out
    assert "INCOMPLETE: whole" not in program.out
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(content["incomplete"]) == ["test"]
    assert load_results(folders[1]).complete and not load_results(folders[0]).complete
