"""Evaluation indices: the published format, our fields, and files that are neither."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvsplat.data.evaluation_index.index_file import (
    IndexEntry,
    odd_views,
    read_evaluation_index,
    read_usable_entries,
    scene_of,
    write_evaluation_index,
)

NOTES = {"overlap", "tier"}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_written_is_read(tmp_path):
    entries = {
        "plain": IndexEntry((0, 4), (1, 2)),
        "left out": None,
        "a_00": IndexEntry((0, 4, 9), (3,), scene="a", overlap=0.25, tier="small"),
        "ü/テスト \u2028\n": IndexEntry((7,), (7,), overlap=1.0),
    }
    path = tmp_path / "new folder" / "index.json"
    write_evaluation_index(path, entries)
    assert read_evaluation_index(path) == entries
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text(encoding="utf-8"))["plain"] == {
        "context": [0, 4],
        "target": [1, 2],
    }


def test_the_published_format(tmp_path):
    path = write(tmp_path / "i.json", {"a": {"context": [2, 6], "target": [3, 4]}, "b": None})
    assert read_evaluation_index(path) == {"a": IndexEntry((2, 6), (3, 4)), "b": None}


def test_an_overlap_in_words_is_a_tier(tmp_path):
    views = {"context": [0, 1], "target": [2], "more": [1]}
    path = write(
        tmp_path / "i.json",
        {"a": views | {"overlap": "small"}, "b": views | {"overlap": "big", "tier": "large"}},
    )
    entries = read_evaluation_index(path)
    assert entries["a"].notes() == {"tier": "small"}
    assert entries["b"].notes() == {"tier": "large"}


GOOD = {"context": [0, 1], "target": [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ('{"a": ' + "[" * 100_000, "is not JSON"),
        ('{"a": null, "a": null}', "scene 'a': the entry is there twice"),
        ('{"a": {"context": [0], "context": [1], "target": [2]}}', "it has 'context' twice"),
        ({"a": GOOD | {"context": [-1, 6]}}, r"scene 'a': .* found .*\[-1, 6\]"),
        ("null", "holds a NoneType"),
        ("3", "holds a int"),
        ({"a": []}, "scene 'a': expected null or"),
        ({"a": GOOD | {"context": []}}, "scene 'a': expected null or"),
        ({"a": GOOD | {"context": [0.0]}}, "scene 'a': expected null or"),
        ({"a": GOOD | {"context": "01"}}, "scene 'a': expected null or"),
        ({"a": GOOD | {"target": [10**30]}}, "scene 'a': expected null or"),
        ({"a": GOOD | {"overlap": 1.5}}, "scene 'a': overlap is 1.5"),
        ({"a": GOOD | {"overlap": [0.5]}}, r"scene 'a': overlap is \[0.5\]"),
        ({"a": GOOD | {"overlap": True}}, "scene 'a': overlap is True"),
        ('{"a": {"context": [0], "target": [1], "overlap": NaN}}', "scene 'a': overlap is nan"),
        ({"a": GOOD | {"tier": 3}}, "scene 'a': tier is '3'"),
        ({"a": GOOD | {"tier": "x" * 101}}, "scene 'a': tier is 'xxxx"),
        ({"a": GOOD | {"scene": ["b"]}}, "scene 'a': scene is"),
        ('{"a": {"context": [' + "9" * 5000 + '], "target": [1]}}', "is not JSON"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    path = write(tmp_path / "index.json", content)
    with pytest.raises(ValueError, match=rf"index\.json.*{message}"):
        read_evaluation_index(path)


def test_bad_entries_do_not_spoil_the_good_ones(tmp_path):
    path = tmp_path / "index.json"
    good = json.dumps(GOOD)
    path.write_text(
        f'{{"a": {good}, "twice": {good}, "twice": null, "none": null, '
        '"negative": {"context": [-1, 6], "target": [3]}}'
    )
    entries, problems = read_usable_entries(path)
    assert entries == {"a": IndexEntry((0, 1), (2,)), "none": None}
    assert problems["twice"] == "the entry is there twice" and "[-1, 6]" in problems["negative"]
    assert len(problems) == 2
    path.write_text('{"a": 3, "b": 4}')
    with pytest.raises(ValueError, match=r"scene 'a': .*and 1 more such"):
        read_usable_entries(path)


def test_views_that_are_there_twice_are_remarked_on():
    entries = {
        "good": IndexEntry((0, 6), (2, 3)),
        "both": IndexEntry((0, 6), (0, 3)),
        "target": IndexEntry((0, 6), (3, 3)),
        "context": IndexEntry((5, 5), (3,)),
        "none": None,
    }
    assert odd_views(entries, ["good", "none"]) == []
    assert odd_views(entries, list(entries)) == [
        "1 of 5 entries have targets that are context views (both: frame 0)",
        "1 of 5 entries name a target twice, which counts once (target: frame 3)",
        "1 of 5 entries name a context view twice, which the model gets twice (context: frame 5)",
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 10**12) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["context", "target", "scene", "overlap", "tier", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=3) | VALUES)
def test_any_json_is_an_index_or_refused(tmp_path_factory, content):
    path = write(tmp_path_factory.getbasetemp() / "any.json", json.dumps(content))
    try:
        entries = read_evaluation_index(path)
    except ValueError as error:
        assert "any.json" in str(error)
        return
    for entry in entries.values():
        assert entry is None or (entry.context and entry.target and set(entry.notes()) <= NOTES)


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no evaluation index"):
        read_evaluation_index(tmp_path / "none.json")
    with pytest.raises(ValueError, match="cannot be read"):
        read_evaluation_index(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b'{"\xff": null}')
    with pytest.raises(ValueError, match="is not JSON"):
        read_evaluation_index(tmp_path / "bytes.json")


def test_a_full_disk_leaves_the_old_index(tmp_path, monkeypatch):
    path = write(tmp_path / "index.json", {"a": None})

    def half(self, text, encoding):
        self.write_bytes(text.encode(encoding)[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="No space left"):
        write_evaluation_index(path, {"b": None})
    assert read_evaluation_index(path) == {"a": None}
    assert list(tmp_path.iterdir()) == [path]


def test_which_scene_a_name_means():
    known = {"scan1", "scan2_00", "b"}
    entry = IndexEntry((0,), (1,))
    assert scene_of("scan1", entry, known) == "scan1"
    assert scene_of("scan1_07", entry, known) == "scan1"
    assert scene_of("scan2_00", None, known) == "scan2_00"
    assert scene_of("scan1_x", entry, known) is None
    assert scene_of("anything", IndexEntry((0,), (1,), scene="b"), known) == "b"
    assert scene_of("scan1", IndexEntry((0,), (1,), scene="gone"), known) is None
