"""Data sets of which something is missing, damaged or contradicts the rest."""

import json
import os

import pytest

from case_jax.data.activitynet import find_sources, load_activitynet
from case_jax.data.doctor import diagnose
from case_jax.data.info import read_info
from case_jax.data.thumos import is_thumos_layout, load_dataset
from case_jax.errors import InputError
from tests.faults.readers import npy
from tests.faults.refusals import (
    JSON,
    LONG,
    NPY,
    ONES,
    assert_message,
    assert_refused,
    bad,
    refused,
)

pytestmark = pytest.mark.faults


# A data set in THUMOS14's layout: splits, dataset.json, and what contradicts what


@pytest.fixture
def data(tmp_path):
    """Two training videos and a test video, of 4 snippets and 3 channels."""
    folder = tmp_path / "data"
    videos = {"a": "train", "b": "train", "c": "test"}
    for name, split in videos.items():
        for stream in ("rgb", "flow"):
            path = folder / "features" / split / stream / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(npy(ONES))
    (folder / "split_train.txt").write_text("a\nb\n")
    (folder / "split_test.txt").write_text("c\n")
    annotation = {"label": "Diving", "segment": [0.5, 1]}
    database = {name: {"subset": split, "annotations": [annotation]} for name, split in videos.items()}
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return folder


NAMES = "expected a video name, not a path"
LIST = "{0}/split_train.txt"


@pytest.mark.parametrize(
    "content, message",
    [
        bad("missing", None, LIST + ": no such file; expected one video name a line"),
        bad("empty file", b"", LIST + ": names no video; expected one video name a line"),
        bad(
            "blank lines",
            b"\xef\xbb\xbf\r\n \t\r\n",
            LIST + ": names no video; expected one video name a line",
        ),
        bad("latin-1", b"a\ncaf\xe9\n", LIST + ": is not UTF-8 text; expected one video name a line"),
        bad(
            "UTF-16", "a\nb\n".encode("utf-16"), LIST + ": is not UTF-8 text; expected one video name a line"
        ),
        bad("name twice", b"a\nb\n\na \n", LIST + ": 'a' is on lines 1 and 4; expected each video once"),
        bad("path upwards", b"a\n../test/rgb/c\n", LIST + f": line 2 is '../test/rgb/c'; {NAMES}"),
        bad("absolute path", b"/etc/passwd\n", LIST + f": line 1 is '/etc/passwd'; {NAMES}"),
        bad("Windows path", b"..\\c\n", LIST + f": line 1 is '..\\\\c'; {NAMES}"),
        bad("folder above", b"..\n", LIST + f": line 1 is '..'; {NAMES}"),
        bad("NUL", b"a\0\n", LIST + f": line 1 is 'a\\x00'; {NAMES}"),
        bad("unknown video", b"a\nz\n", "{0}/gt.json: has no video 'z'; expected all of " + LIST),
        bad("name with suffix", b"a.npy\n", "{0}/gt.json: has no video 'a.npy'; expected all of " + LIST),
        bad(
            "name of 5,000 letters",
            b"a" * 5000,
            f"{{0}}/gt.json: has no video '{'a' * 1000}…{'a' * 600}'; expected all of " + LIST,
        ),
        bad(
            "video of the other split",
            b"a\nc\n",
            "{0}/gt.json: video 'c' is of subset 'test'; expected 'train' because " + LIST + " lists it",
        ),
        bad("JSON", b'["a", "b"]', '{0}/gt.json: has no video \'["a", "b"]\'; expected all of ' + LIST),
    ],
)
def test_splits(content, message, data):
    path = data / "split_train.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert_refused(load_dataset, data, message)


@pytest.mark.parametrize(
    "content",
    [b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb", b"\n a\t\n\n\nb  \n\n", b"a\rb"],
    ids=["CRLF", "byte order mark", "blank lines and spaces", "CR"],
)
def test_splits_that_are_read(content, data):
    (data / "split_train.txt").write_bytes(content)
    assert [video.name for video in load_dataset(data).train.videos] == ["a", "b"]


def test_a_name_longer_than_any_file(data):
    name = "a" * 300
    (data / "split_train.txt").write_text(f"a\n{name}\n")
    content = json.loads((data / "gt.json").read_text())
    content["database"][name] = content["database"]["a"]
    (data / "gt.json").write_text(json.dumps(content))
    path = f"{data}/features/train/rgb/{name}.npy"
    message = f"{path}: cannot be read ([Errno 36] File name too long: '{path}'); {NPY}"
    assert_refused(load_dataset, data, message)
    counts = {finding.what: finding.counts for finding in diagnose(data).findings}
    assert counts["videos without features"] == {"train": 1, "test": 0}


FIELDS = "streams, frames_per_second, frames_per_snippet, classes, subsets"


@pytest.mark.parametrize(
    "content, message",
    [
        bad("not JSON", b"fps=25", f"is not JSON (line 1, column 1: Expecting value); {JSON}"),
        bad("list", b"[]", "is no JSON object; expected one with fields such as 'classes'"),
        bad("unknown field", b'{"fps": 25}', f"has unknown field 'fps'; expected only {FIELDS}"),
        bad("fps 0", b'{"frames_per_second": 0}', "'frames_per_second' is 0; expected a number above 0"),
        bad(
            "fps -25", b'{"frames_per_second": -25}', "'frames_per_second' is -25; expected a number above 0"
        ),
        bad(
            "fps NaN", b'{"frames_per_second": NaN}', "'frames_per_second' is nan; expected a number above 0"
        ),
        bad(
            "fps 1e999",
            b'{"frames_per_second": 1e999}',
            "'frames_per_second' is inf; expected a number above 0",
        ),
        bad(
            "fps 1e300",
            b'{"frames_per_second": 1e300}',
            "'frames_per_second' is 1e+300; expected a number between 1e-6 and 1e9",
        ),
        bad(
            "fps 1e-320, which times overflow by",
            b'{"frames_per_second": 1e-320}',
            "'frames_per_second' is 1e-320; expected a number between 1e-6 and 1e9",
        ),
        bad(
            "stride of 400 digits",
            b'{"frames_per_snippet": ' + LONG.encode() + b"}",
            f"'frames_per_snippet' is {LONG}; expected a number between 1e-6 and 1e9",
        ),
        bad(
            "fps text",
            b'{"frames_per_second": "25"}',
            "'frames_per_second' is '25'; expected a number above 0",
        ),
        bad(
            "class twice",
            b'{"classes": ["a", "a"]}',
            "'classes' is ['a', 'a']; expected a list of different names",
        ),
        bad("no class", b'{"classes": []}', "'classes' is []; expected a list of different names"),
        bad("class 1", b'{"classes": [1]}', "'classes' is [1]; expected a list of different names"),
        bad("stream ../x", b'{"streams": ["../x"]}', "stream '../x' is a path; expected a folder name"),
        bad("stream /etc", b'{"streams": ["/etc"]}', "stream '/etc' is a path; expected a folder name"),
        bad("stream ..", b'{"streams": [".."]}', "stream '..' is a path; expected a folder name"),
        bad(
            "stream of 300 letters",
            b'{"streams": ["' + b"s" * 300 + b'"]}',
            f"stream '{'s' * 300}' is too long; expected a folder name",
        ),
        bad(
            "subsets list",
            b'{"subsets": ["a"]}',
            "'subsets' is ['a']; expected {\"train\": ..., \"test\": ...}",
        ),
        bad(
            "rescaled, not ActivityNet",
            b'{"rescaled": true}',
            f"has unknown field 'rescaled'; expected only {FIELDS}",
        ),
    ],
)
def test_dataset_json(content, message, tmp_path):
    path = tmp_path / "dataset.json"
    path.write_bytes(content)
    assert_message(refused(lambda path: read_info(path.parent), path), message)


def edit(name, change):
    def run(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return run


def save(name, array):
    return lambda folder: (folder / name).write_bytes(npy(array))


@pytest.mark.parametrize(
    "damage, message",
    [
        bad(
            "label that is no class",
            edit("gt.json", lambda c: c["database"]["a"]["annotations"][0].update(label="Sitting")),
            "{0}/gt.json: video 'a' has label 'Sitting'; expected one of the 20 classes (BaseballPitch .. "
            "VolleyballSpiking); dataset.json can name others",
        ),
        bad(
            "video without annotation",
            edit("gt.json", lambda c: c["database"]["a"].update(annotations=[])),
            "{0}/gt.json: video 'a' has no annotation; expected one or more, or the video left out of "
            "{0}/split_train.txt",
        ),
        bad(
            "empty database",
            edit("gt.json", lambda c: c.update(database={})),
            "{0}/gt.json: has no video 'a'; expected all of {0}/split_train.txt",
        ),
        bad(
            "another width",
            save("features/train/rgb/b.npy", ONES[:, :2]),
            "{0}/features/train/rgb/b.npy: has 2 channels; expected 3 as in {0}/features/train/rgb/a.npy",
        ),
        bad(
            "another length",
            save("features/train/flow/b.npy", ONES[:3]),
            "{0}/features/train/flow/b.npy: has 3 snippets; expected 4 as in {0}/features/train/rgb/b.npy",
        ),
        bad(
            "a stream is missing",
            lambda folder: (folder / "features/test/flow/c.npy").unlink(),
            f"{{0}}/features/test/flow/c.npy: no such file; {NPY}",
        ),
        bad(
            "a stream that is none",
            lambda folder: (folder / "dataset.json").write_text('{"streams": ["rgb", "depth"]}'),
            f"{{0}}/features/train/depth/a.npy: no such file; {NPY}",
        ),
    ],
)
def test_data_sets(damage, message, data):
    load_dataset(data)
    damage(data)
    assert_refused(load_dataset, data, message)


@pytest.mark.parametrize(
    "load", [load_dataset, load_activitynet, diagnose, lambda p: find_sources(p, ["rgb"])]
)
def test_folders_that_cannot_be(load, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file", tmp_path / ("a" * 300)):
        assert is_thumos_layout(path)
        with pytest.raises(InputError) as raised:
            load(path)
        assert str(raised.value).startswith(f"{path}: no such folder; expected ")


def test_a_reader_of_data_sets_says_what_lies_before_the_video(data):
    edit("gt.json", lambda c: c["database"]["a"]["annotations"][0].update(segment=[-1, 1]))(data)
    beyond = {finding.what: finding for finding in diagnose(data).findings}["segments beyond the video"]
    assert (beyond.counts, beyond.example) == ({"train": 1, "test": 0}, "a [-1.0, 1.0]")


# A data set in ActivityNet's layout


@pytest.fixture
def other_layout(tmp_path):
    folder = tmp_path / "other"
    for stream in ("rgb", "flow"):
        (folder / "features" / stream).mkdir(parents=True)
        for name in ("v_a", "v_b"):
            (folder / "features" / stream / f"{name}.npy").write_bytes(npy(ONES))
    annotation = {"label": "Jump", "segment": [0.5, 1]}
    database = {
        name: {"subset": subset, "duration": 2, "annotations": [annotation]}
        for name, subset in (("a", "training"), ("b", "validation"))
    }
    (folder / "anet.json").write_text(json.dumps({"database": database}))
    return folder


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def undecodable(folder):
    (folder / "features" / "rgb" / os.fsdecode(b"caf\xe9.npy")).write_bytes(npy(ONES))
    (folder / "features" / "flow" / os.fsdecode(b"caf\xe9.npy")).write_bytes(npy(ONES))


@pytest.mark.parametrize(
    "damage, message",
    [
        bad(
            "no annotations",
            lambda folder: (folder / "anet.json").unlink(),
            "{0}: holds 0 .json files; expected one with annotations, or its name as 'annotations' in "
            "dataset.json",
        ),
        bad(
            "two files of annotations",
            write("more.json", b"{}"),
            "{0}: holds 2 .json files (anet.json, more.json); expected one with annotations, or its name as "
            "'annotations' in dataset.json",
        ),
        *(
            bad(
                f"annotations {name}",
                write("dataset.json", json.dumps({"annotations": name}).encode()),
                f"{{0}}/dataset.json: 'annotations' is {name!r}; expected the name of a file beside it",
            )
            for name in ("../gt.json", "/etc/passwd", "..", "", 3)
        ),
        bad(
            "annotations are a folder",
            write("dataset.json", b'{"annotations": "features"}'),
            "{0}/features: cannot be read (Is a directory); expected a JSON file",
        ),
        bad(
            "annotations with NUL",
            write("dataset.json", b'{"annotations": "a\\u0000.json"}'),
            "{0}/dataset.json: holds the text 'a\\x00.json'; expected none with NUL characters or surrogates",
        ),
        bad(
            "rescaled 1",
            write("dataset.json", b'{"rescaled": 1}'),
            "{0}/dataset.json: 'rescaled' is 1; expected true or false",
        ),
        bad(
            "rescaled without duration",
            lambda folder: [
                write("dataset.json", b'{"rescaled": true}')(folder),
                edit("anet.json", lambda c: c["database"]["a"].pop("duration"))(folder),
            ],
            "{0}/anet.json: video 'a' has no duration; expected one, since features are rescaled",
        ),
        bad(
            "a name that is not UTF-8",
            undecodable,
            "{0}/features/rgb/caf\\udce9.npy: the name is not UTF-8 text; expected one that can be written",
        ),
        bad(
            "a folder by the name of a video",
            lambda folder: [
                (folder / "features/rgb/v_a.npy").unlink(),
                (folder / "features/rgb/v_a.npy").mkdir(),
            ],
            f"{{0}}/features/rgb/v_a.npy: cannot be read (…); {NPY}",
        ),
        bad(
            "split with a name twice",
            write("split_train.txt", b"a\nv_a\n"),
            "{0}/split_train.txt: names 'a' with and without the prefix v_; expected it once",
        ),
        bad(
            "video in both splits",
            lambda folder: [
                edit("anet.json", lambda c: [v.pop("subset") for v in c["database"].values()])(folder),
                (folder / "anet.json").write_text(
                    json.dumps(json.loads((folder / "anet.json").read_text())["database"])
                ),
                write("split_train.txt", b"a\n")(folder),
                write("split_test.txt", b"a\n")(folder),
            ],
            "{0}: video 'a' is in both splits; expected it in one",
        ),
        bad(
            "no features",
            lambda folder: [path.unlink() for path in (folder / "features" / "rgb").iterdir()],
            "{0}/features: holds no features; expected rgb/<video>.npy and flow/<video>.npy, <video>.npy, "
            ".csv or HDF5 files",
        ),
    ],
)
def test_data_sets_in_the_other_layout(damage, message, other_layout):
    load_activitynet(other_layout)
    damage(other_layout)
    assert_refused(load_activitynet, other_layout, message)


def test_an_unreadable_folder_of_features(other_layout, monkeypatch):
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("features"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert_refused(
        load_activitynet,
        other_layout,
        "{0}/features: cannot be read (Permission denied); expected features in it",
    )
