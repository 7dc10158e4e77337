"""Files that users hand over by mistake, or by malice: each is refused in one line, or read as what it is."""

import json
import os
import pickle
import struct
import threading

import numpy as np
import pytest

from case_jax.data.annotations import read_ground_truth, read_intervals
from case_jax.data.dataset import Annotation
from case_jax.data.files import read_json, read_names
from case_jax.data.formats import Source, hdf5_keys, read_source
from case_jax.data.torch_files import read_state_dict
from case_jax.errors import InputError
from case_jax.localization.detections import read_predictions
from tests.faults.readers import npy
from tests.faults.refusals import JSON, LONG, NPY, ONES, Trap, assert_message, bad, npz, refused

pytestmark = pytest.mark.faults


# .npy features

UNREADABLE = f"cannot be read (…); {NPY}"


def header(text, data=b"\0" * 48):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def described(descr="'<f4'", order="False", shape="(4, 3)"):
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}")


def pickled(value):
    return lambda: npy(np.array([[value]], object))


@pytest.mark.parametrize(
    "content, message",
    [
        bad("empty file", b"", UNREADABLE),
        bad("cut in the magic", npy(ONES)[:4], UNREADABLE),
        bad("cut in the header", npy(ONES)[:50], UNREADABLE),
        bad("cut after the header", npy(ONES)[:128], UNREADABLE),
        bad("cut in the data", npy(ONES)[:-1], UNREADABLE),
        bad("wrong magic", b"\x92" + npy(ONES)[1:], UNREADABLE),
        bad("wrong version", npy(ONES)[:6] + b"\7" + npy(ONES)[7:], UNREADABLE),
        bad("text", b"1.0 2.0\n", UNREADABLE),
        bad("html page", b"<!DOCTYPE html><title>404</title>", UNREADABLE),
        bad("pickled objects", pickled(Trap()), UNREADABLE),
        bad(
            "plain pickle", lambda: pickle.dumps(Trap()), f"cannot be read (it holds pickled objects); {NPY}"
        ),
        bad("npz by another name", npz(ONES), f"is an archive of several arrays; {NPY}"),
        bad("10^9 rows promised", described(shape="(1000000000, 1024)"), UNREADABLE),
        bad("2^64 rows promised", described(shape="(18446744073709551616, 1)"), UNREADABLE),
        bad("product beyond 2^64", described(shape="(4611686018427387904, 4)"), UNREADABLE),
        bad("negative rows", described(shape="(-4, 3)"), UNREADABLE),
        bad("rows that are text", described(shape="('4', 3)"), UNREADABLE),
        bad("header that is code", described(shape="(print(1), 3)"), UNREADABLE),
        bad("header of 20 kB", described(shape="(4, 3)" + " " * 20_000), UNREADABLE),
        bad("nested header", described(shape="(" * 300 + ")" * 300), UNREADABLE),
        bad("unknown dtype", described(descr="'<q9'"), UNREADABLE),
        bad("bool", npy(ONES > 0), f"holds bool values; {NPY}"),
        bad("complex", npy(ONES * 1j), f"holds complex64 values; {NPY}"),
        bad("text values", npy(np.array([["1", "2"]])), f"holds <U1 values; {NPY}"),
        bad("dates", npy(np.zeros((2, 2), "<M8[s]")), f"holds datetime64[s] values; {NPY}"),
        bad("records", npy(np.zeros((4, 3), [("x", "<f4")])), f"holds [('x', '<f4')] values; {NPY}"),
        bad("no rows", npy(ONES[:0]), f"has shape (0, 3); {NPY}"),
        bad("no channels", npy(ONES[:, :0]), f"has shape (4, 0); {NPY}"),
        bad("one number", npy(np.float32(1)), f"has shape (); {NPY}"),
        bad("1-d", npy(ONES[0]), f"has shape (3,); {NPY}"),
        bad("3-d", npy(ONES[None]), f"has shape (1, 4, 3); {NPY}"),
        bad("NaN", npy(ONES * [1, np.nan, 1]), "snippet 0, channel 1 is nan; expected finite numbers"),
        bad("inf", npy(np.diag([1, np.inf])), "snippet 1, channel 1 is inf; expected finite numbers"),
        bad(
            "beyond float32",
            npy(ONES.astype(np.float64) * -1e300),
            "snippet 0, channel 0 is -inf; expected finite numbers",
        ),
    ],
)
def test_features(content, message, tmp_path, trap):
    path = tmp_path / "v.npy"
    path.write_bytes(content() if callable(content) else content)
    assert_message(refused(lambda path: read_source(Source(path)), path), message)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.asfortranarray(ONES * [1, 2, 3]), id="Fortran order"),
        pytest.param((ONES * 0.5).astype(np.float16), id="float16"),
        pytest.param((ONES * 0.1).astype(np.float64), id="float64"),
        pytest.param((ONES * 0.1).astype(np.longdouble), id="long double"),
        pytest.param((ONES * -7).astype(np.int8), id="int8"),
        pytest.param((ONES * -(2**40)).astype(np.int64), id="int64"),
        pytest.param((ONES * 255).astype(np.uint8), id="uint8"),
        pytest.param((ONES * 0.1).astype(">f4"), id="big-endian"),
        pytest.param((ONES * 300).astype(">i2"), id="big-endian int16"),
        pytest.param(ONES[:1], id="one row"),
        pytest.param(ONES[:, :1], id="one channel"),
        pytest.param(ONES * 1e-45, id="subnormal"),
    ],
)
def test_features_that_are_read(array, tmp_path):
    (tmp_path / "v.npy").write_bytes(npy(array))
    features = read_source(Source(tmp_path / "v.npy"))
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, array.astype(np.float32))


def as_folder(path):
    path.mkdir()


def as_link_to_nothing(path):
    path.symlink_to(path.with_name("gone"))


def as_link_to_itself(path):
    path.symlink_to(path)


def as_locked(path):
    path.touch(mode=0o000)
    if os.access(path, os.R_OK):
        pytest.skip("nothing is locked for root")


def as_nothing(path):
    pass


FOLDER, LOCKED, LOOP = "Is a directory", "Permission denied", "Too many levels of symbolic links"
PLACES = [
    pytest.param(as_nothing, None, "no such file", id="missing"),
    pytest.param(as_folder, 21, FOLDER, id="folder"),
    pytest.param(as_link_to_nothing, None, "no such file", id="link to nothing"),
    pytest.param(as_link_to_itself, 40, LOOP, id="link to itself"),
    pytest.param(as_locked, 13, LOCKED, id="locked"),
]


@pytest.mark.parametrize("make, errno, reason", PLACES)
@pytest.mark.parametrize(
    "name, expected",
    [
        ("v.npy", NPY),
        ("v.csv", "expected a .csv file with a row of numbers per snippet"),
        ("best_model.pkl", "expected a state dict as torch.save(model.state_dict(), path) writes it"),
    ],
)
def test_places_of_features_and_checkpoints(make, errno, reason, name, expected, tmp_path):
    path = tmp_path / name
    make(path)
    read = read_state_dict if name.endswith(".pkl") else lambda path: read_source(Source(path))
    if errno is not None:
        reason = f"cannot be read ([Errno {errno}] {reason}: '{path}')"
    assert refused(read, path) == f"{reason}; {expected}"


@pytest.mark.parametrize("make, errno, reason", PLACES)
@pytest.mark.parametrize(
    "read, expected",
    [
        (read_ground_truth, "a JSON file"),
        (read_predictions, "a JSON file"),
        (read_names, "one video name a line"),
        (read_intervals, "a video name, start and end in seconds on each line"),
    ],
)
def test_places_of_text_files(make, errno, reason, read, expected, tmp_path):
    path = tmp_path / "file"
    make(path)
    reason = reason if errno is None else f"cannot be read ({reason})"
    assert refused(read, path) == f"{reason}; expected {expected}"


@pytest.mark.parametrize("name", ["v.csv", "v.h5", "best_model.pkl"])
def test_pipes_are_not_waited_for(name, tmp_path):
    path = tmp_path / name
    os.mkfifo(path)
    if name == "v.h5":
        pytest.importorskip("h5py")
    read = {"v.csv": lambda path: read_source(Source(path)), "v.h5": hdf5_keys}.get(name, read_state_dict)
    assert refused(read, path).startswith("is a pipe or a device; expected ")


def test_text_may_come_from_a_pipe(tmp_path):
    """As --ground_truth=<(zcat gt.json.gz)."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[truth()])
    writer.start()
    assert list(read_ground_truth(tmp_path / "pipe")["v"].annotations) == [JUMP]
    writer.join()


@pytest.mark.parametrize("name", ["a" * 300 + ".npy", "a\0b.npy", "\ud800.npy"])
def test_names_that_no_file_has(name, tmp_path):
    for read in (lambda path: read_source(Source(path)), read_json, read_names):
        with pytest.raises(InputError) as raised:
            read(tmp_path / name)
        assert str(raised.value).isprintable()
        assert "cannot be read (" in str(raised.value)


def test_a_name_with_line_breaks_is_named_in_one_line(tmp_path):
    path = tmp_path / "two\nlines\x1b[31m.json"
    with pytest.raises(InputError) as raised:
        read_json(path)
    assert str(raised.value) == f"{tmp_path}/two\\nlines\\x1b[31m.json: no such file; expected a JSON file"


# .csv and HDF5 features

CSV = "expected a .csv file with a row of numbers per snippet"


@pytest.mark.parametrize(
    "content, message",
    [
        bad("empty file", b"", f"holds no numbers; {CSV}"),
        bad("only names", b"a,b\n", f"holds no numbers; {CSV}"),
        bad("rows of other lengths", b"1,2\n3\n", f"cannot be read (…); {CSV}"),
        bad("cut in a row", b"1,2\n3,4\n5,", f"cannot be read (…); {CSV}"),
        bad("semicolons", b"1;2\n3;4\n", f"cannot be read (…); {CSV}"),
        bad("text within", b"a,b\n1,2\n3,x\n", f"cannot be read (…); {CSV}"),
        bad("latin-1", b"caf\xe9,b\n1,2\n", f"cannot be read (…); {CSV}"),
        bad("UTF-16", "1,2\n".encode("utf-16"), f"cannot be read (…); {CSV}"),
        bad("NUL", b"1,2\n3,\0\n", f"cannot be read (…); {CSV}"),
        bad("binary", npy(ONES), f"cannot be read (…); {CSV}"),
        bad("NaN", b"1,2\n3,nan\n", "snippet 1, channel 1 is nan; expected finite numbers"),
        bad("beyond float32", b"1,2\n1e99,3\n", "snippet 1, channel 0 is inf; expected finite numbers"),
        bad("beyond float64", b"1,2\n3,-1e999\n", "snippet 1, channel 1 is -inf; expected finite numbers"),
    ],
)
def test_csv_features(content, message, tmp_path):
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    assert_message(refused(lambda path: read_source(Source(path)), path), message)


@pytest.mark.parametrize(
    "content",
    [b"1,2\n3,4", b"1,2\r\n3,4\r\n", b"\xef\xbb\xbf1,2\n3,4\n", b"a,b\n1,2\n\n3.0,4e0\n", b" 1 , 2\n3, 4\n"],
    ids=["no last line break", "CRLF", "byte order mark", "names and blank lines", "spaces"],
)
def test_csv_features_that_are_read(content, tmp_path):
    (tmp_path / "v.csv").write_bytes(content)
    assert read_source(Source(tmp_path / "v.csv")).tolist() == [[1, 2], [3, 4]]


def test_hdf5_features(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["good"] = ONES
        file["1-d"] = ONES[0]
        file["empty"] = ONES[:0]
        file["text"] = np.array([[b"a"]])
        file["NaN"] = ONES * np.nan
        file["two/a"], file["two/b"] = ONES, ONES
        file["outside"] = h5py.ExternalLink("other.h5", "v")
        file["soft"] = h5py.SoftLink("/good")
        # 4 TB that no file holds
        file.create_dataset("huge", (10**9, 1024), "f4", chunks=(1, 1024))
        # 1 GB of zeros from less
        file.create_dataset("sparse", (2**18, 1024), "f4", chunks=(1, 1024))[0] = 1
    expected = "expected a (snippets, channels) data set of numbers"
    for key, message in (
        ("1-d", f"has shape (3,); {expected}"),
        ("empty", f"has shape (0, 3); {expected}"),
        ("text", f"holds no numbers; {expected}"),
        ("NaN", "snippet 0, channel 0 is nan; expected finite numbers"),
        ("two", "is a group of 2; expected one data set in it"),
        ("outside", "is a link; expected a data set in the file itself"),
        ("soft", "is a link; expected a data set in the file itself"),
        ("gone", "is not there; expected a data set of that name"),
        ("huge", f"has shape (1000000000, 1024), more than is stored; {expected}"),
        ("sparse", f"has shape (262144, 1024), more than is stored; {expected}"),
        (None, "is an HDF5 file of data sets by name; expected a .npy file of one array"),
    ):
        source = Source(path, key)
        with pytest.raises(InputError) as raised:
            read_source(source)
        assert str(raised.value) == f"{source}: {message}"
    np.testing.assert_array_equal(read_source(Source(path, "good")), ONES)

    whole = path.read_bytes()
    for name, content in (("empty", b""), ("text", b"no HDF5"), ("npy", npy(ONES)), ("cut", whole[:-9])):
        (tmp_path / f"{name}.h5").write_bytes(content)
        message = refused(hdf5_keys, tmp_path / f"{name}.h5")
        assert_message(message, "cannot be read (…); expected an HDF5 file")


def test_hdf5_data_sets_that_compress_well_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    zeros = np.zeros((2**14, 1024), np.float32)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("v", data=zeros, compression="gzip", compression_opts=9)
    assert (tmp_path / "f.h5").stat().st_size < zeros.nbytes / 400
    assert not read_source(Source(tmp_path / "f.h5", "v")).any()


# gt.json

FORM = 'expected the ActivityNet form {"database": {video: {"subset", "annotations"}}}'
SEGMENT = 'expected {"label": text, "segment": [start, end]} in seconds'


def truth(**fields):
    """One video with one annotation, some of whose fields are others."""
    annotation = {"label": "Jump", "segment": [1, 2]}
    video = {"subset": "test", "annotations": [annotation]}
    for name, value in fields.items():
        (annotation if name in ("label", "segment") else video)[name] = value
    return json.dumps({"database": {"v": video}}).encode()


def removed(name):
    content = json.loads(truth())
    video = content["database"]["v"]
    del (video if name in video else video["annotations"][0])[name]
    return json.dumps(content).encode()


def segment(shown, message):
    return f"video 'v', annotation 0: segment {shown} {message}"


def of_shape(shown):
    return f"video 'v', annotation 0: is {{'label': 'Jump', 'segment': {shown}}}; {SEGMENT}"


@pytest.mark.parametrize(
    "content, message",
    [
        bad("empty file", b"", f"is not JSON (line 1, column 1: Expecting value); {JSON}"),
        bad("not JSON", b"database: v", f"is not JSON (line 1, column 1: Expecting value); {JSON}"),
        bad("cut", truth()[:60], f"is not JSON (line 1, column 56: …); {JSON}"),
        bad("two documents", b"{}{}", f"is not JSON (line 1, column 3: Extra data); {JSON}"),
        bad("binary", npy(ONES), f"is not UTF-8 text; {JSON}"),
        bad("latin-1", '{"é": 1}'.encode("latin-1"), f"is not UTF-8 text; {JSON}"),
        bad("UTF-16", '{"a": 1}'.encode("utf-16"), f"is not UTF-8 text; {JSON}"),
        bad("UTF-16 without mark", '{"a": 1}'.encode("utf-16-le"), f"is not JSON (…); {JSON}"),
        bad("100,000 brackets", b"[" * 100_000, f"is nested too deeply; {JSON}"),
        bad("100,000 objects", b'{"a":' * 100_000, f"is nested too deeply; {JSON}"),
        bad(
            "100,000 closed brackets",
            b'{"database":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            f"is nested too deeply; {JSON}",
        ),
        bad("integer of 5,000 digits", b"9" * 5000, f"cannot be read (…); {JSON}"),
        bad(
            "video twice",
            b'{"database": {"v": {}, "v": {}}}',
            "has 'v' twice in one object; expected each name once",
        ),
        bad(
            "field twice",
            b'{"database": {"v": {"subset": "a", "subset": "b"}}}',
            "has 'subset' twice in one object; expected each name once",
        ),
        bad(
            "one of 50,000 videos twice",
            "{{{}}}".format(", ".join(f'"{i % 49_999}": 0' for i in range(49_998, 99_998))).encode(),
            "has '49998' twice in one object; expected each name once",
        ),
        bad(
            "half a surrogate pair",
            truth(label="\ud800"),
            "holds the text '\\ud800'; expected none with NUL characters or surrogates",
        ),
        bad(
            "NUL in a name",
            b'{"database": {"v\\u0000": {}}}',
            "holds the text 'v\\x00'; expected none with NUL characters or surrogates",
        ),
        bad("a list", b"[]", f"has no 'database' object; {FORM}"),
        bad("null", b"null", f"has no 'database' object; {FORM}"),
        bad("a number", b"1", f"has no 'database' object; {FORM}"),
        bad("another object", b'{"results": {}}', f"has no 'database' object; {FORM}"),
        bad("database is a list", b'{"database": []}', f"has no 'database' object; {FORM}"),
        bad(
            "video is a list",
            b'{"database": {"v": []}}',
            "video 'v': has no subset; expected an object with text 'subset'",
        ),
        bad(
            "no subset", removed("subset"), "video 'v': has no subset; expected an object with text 'subset'"
        ),
        bad("subset 1", truth(subset=1), "video 'v': has no subset; expected an object with text 'subset'"),
        bad(
            "annotations are an object",
            truth(annotations={}),
            "video 'v': 'annotations' is no list; expected a list of label and segment",
        ),
        bad("no label", removed("label"), f"video 'v', annotation 0: is {{'segment': [1, 2]}}; {SEGMENT}"),
        bad("no segment", removed("segment"), f"video 'v', annotation 0: is {{'label': 'Jump'}}; {SEGMENT}"),
        bad("annotation is text", truth(annotations=["x"]), f"video 'v', annotation 0: is 'x'; {SEGMENT}"),
        bad("label is a number", truth(label=3), "video 'v', annotation 0: label is 3; expected text"),
        bad("segment of one", truth(segment=[1]), of_shape("[1]")),
        bad("segment of three", truth(segment=[1, 2, 3]), of_shape("[1, 2, 3]")),
        bad("segment of words", truth(segment=["a", "b"]), of_shape("['a', 'b']")),
        bad("segment of truth values", truth(segment=[True, 2]), of_shape("[True, 2]")),
        bad("segment of null", truth(segment=[None, 2]), of_shape("[None, 2]")),
        bad("segment of 400 digits", truth(segment=[0, 10**400]), of_shape(f"[0, {LONG}]")),
        bad(
            "start after end",
            truth(segment=[2, 1]),
            segment("[2.0, 1.0]", "ends before it starts; expected start <= end"),
        ),
        bad(
            "NaN", truth(segment=[0, float("nan")]), segment("[0.0, nan]", "is not finite; expected seconds")
        ),
        bad(
            "NaN in text", truth(segment=[0, "nan"]), segment("[0.0, nan]", "is not finite; expected seconds")
        ),
        bad(
            "Infinity",
            truth(segment=[0, float("inf")]),
            segment("[0.0, inf]", "is not finite; expected seconds"),
        ),
        bad(
            "1e999",
            truth(segment=[0, 7]).replace(b"7", b"1e999"),
            segment("[0.0, inf]", "is not finite; expected seconds"),
        ),
        bad(
            "1e308",
            truth(segment=[0, 1e308]),
            segment("[0.0, 1e+308]", "is beyond any video; expected seconds"),
        ),
        bad(
            "10^18",
            truth(segment=[-(10**18), 0]),
            segment("[-1e+18, 0.0]", "is beyond any video; expected seconds"),
        ),
        bad("negative duration", truth(duration=-1), "video 'v': duration is -1; expected seconds"),
        bad("duration NaN", truth(duration=float("nan")), "video 'v': duration is nan; expected seconds"),
        bad("duration text", truth(duration="long"), "video 'v': duration is 'long'; expected seconds"),
        bad("duration 1e300", truth(duration=1e300), "video 'v': duration is 1e+300; expected seconds"),
    ],
)
def test_ground_truth(content, message, tmp_path):
    path = tmp_path / "gt.json"
    path.write_bytes(content)
    assert_message(refused(read_ground_truth, path), message)


def test_a_message_quotes_no_more_of_a_file_than_fits(tmp_path):
    path = tmp_path / "gt.json"
    path.write_bytes(truth(segment=["long"] * 100_000))
    message = refused(read_ground_truth, path)
    assert len(f"{path}: {message}") == 2000
    assert message.startswith("video 'v', annotation 0: is {'label': 'Jump', 'segment': ['long', 'long', ")
    assert message.endswith(f"'long']}}; {SEGMENT}")
    assert message.count(" ... ") == 1


JUMP = Annotation("Jump", 1.0, 2.0)


@pytest.mark.parametrize(
    "content, expected",
    [
        pytest.param(truth(segment=["1", "2.0"]), [JUMP], id="bounds in text, as THUMOS14 has them"),
        pytest.param(b"\xef\xbb\xbf" + truth(), [JUMP], id="byte order mark"),
        pytest.param(truth().replace(b" ", b"\r\n\t"), [JUMP], id="CRLF and tabs"),
        pytest.param(truth(annotations=[]), [], id="no annotation"),
        pytest.param(removed("annotations"), [], id="no annotations"),
        pytest.param(truth(segment=[-1, 2]), [JUMP._replace(start=-1.0)], id="before the video"),
        pytest.param(truth(segment=[1, 99], duration=2), [JUMP._replace(end=99.0)], id="beyond the video"),
        pytest.param(truth(segment=[1, 1]), [JUMP._replace(end=1.0)], id="no length"),
        pytest.param(
            truth(annotations=[{"label": "Jump", "segment": [1, 2]}] * 2), [JUMP, JUMP], id="annotation twice"
        ),
        pytest.param(
            truth(label="Ju\nmp", extra={"a": [1]}), [JUMP._replace(label="Ju\nmp")], id="more fields"
        ),
        pytest.param(
            truth(label="\U0001f938"), [JUMP._replace(label="\U0001f938")], id="whole surrogate pair"
        ),
        pytest.param(truth(label="\\ud800"), [JUMP._replace(label="\\ud800")], id="escaped escape"),
    ],
)
def test_ground_truth_that_is_read(content, expected, tmp_path):
    (tmp_path / "gt.json").write_bytes(content)
    assert list(read_ground_truth(tmp_path / "gt.json")["v"].annotations) == expected


def test_an_empty_database_has_no_video(tmp_path):
    (tmp_path / "gt.json").write_text('{"database": {}}')
    assert read_ground_truth(tmp_path / "gt.json") == {}


@pytest.mark.slow
def test_a_million_annotations(tmp_path):
    count = 1_000_000
    entries = ", ".join(f'{{"label": "Jump", "segment": [{i}, {i}.5]}}' for i in range(count))
    text = f'{{"database": {{"v": {{"subset": "test", "annotations": [{entries}]}}}}}}'
    (tmp_path / "gt.json").write_text(text)
    annotations = read_ground_truth(tmp_path / "gt.json")["v"].annotations
    assert len(annotations) == count
    assert annotations[-1] == ("Jump", count - 1.0, count - 0.5)


# Predictions

DETECTION = 'expected {"label": text, "score": number, "segment": [start, end]}'
RESULTS = (
    'expected the ActivityNet prediction format {"results": {video: [{"label", "score", "segment": '
    "[start, end]}]}}"
)


def found(**changes):
    entry = {"label": "Jump", "score": 0.5, "segment": [1, 2], **changes}
    entry = {name: value for name, value in entry.items() if value is not ...}
    return json.dumps({"results": {"v": [entry]}}).encode()


def detection(message):
    return f"video 'v', detection 0: {message}"


def not_finite(*numbers):
    return detection(f"score or segment is not finite {numbers}; expected numbers")


@pytest.mark.parametrize(
    "content, message",
    [
        bad("empty file", b"", f"is not JSON (line 1, column 1: Expecting value); {JSON}"),
        bad("cut", found()[:40], f"is not JSON (line 1, column 38: …); {JSON}"),
        bad("csv", b"video,label\nv,Jump\n", f"is not JSON (line 1, column 1: Expecting value); {JSON}"),
        bad("a list", b"[]", f"has no 'results' object; {RESULTS}"),
        bad("ground truth", truth(), f"has no 'results' object; {RESULTS}"),
        bad("results are a list", b'{"results": []}', f"has no 'results' object; {RESULTS}"),
        bad(
            "video twice",
            b'{"results": {"v": [], "w": [], "v": []}}',
            "has 'v' twice in one object; expected each name once",
        ),
        bad(
            "video is an object",
            b'{"results": {"v": {}}}',
            "video 'v' does not hold a list; expected a list of detections",
        ),
        bad(
            "no label",
            found(label=...),
            detection(f'is {{"score": 0.5, "segment": [1, 2]}}; {DETECTION}'),
        ),
        bad(
            "no score",
            found(score=...),
            detection(f'is {{"label": "Jump", "segment": [1, 2]}}; {DETECTION}'),
        ),
        bad(
            "no segment", found(segment=...), detection(f'is {{"label": "Jump", "score": 0.5}}; {DETECTION}')
        ),
        bad("detection is null", b'{"results": {"v": [null]}}', detection(f"is null; {DETECTION}")),
        bad("label is null", found(label=None), detection("label is null; expected text")),
        bad(
            "segment is text",
            found(segment="1-2"),
            detection(f'is {{"label": "Jump", "score": 0.5, "segment": "1-2"}}; {DETECTION}'),
        ),
        bad(
            "segment of 1,000",
            found(segment=list(range(1000))),
            detection(
                'is {"label": "Jump", "score": 0.5, "segment": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,...; '
                + DETECTION
            ),
        ),
        bad(
            "score is true",
            found(score=True),
            detection(f'is {{"label": "Jump", "score": true, "segment": [1, 2]}}; {DETECTION}'),
        ),
        bad("score NaN", found(score=float("nan")), not_finite(float("nan"), 1.0, 2.0)),
        bad("score infinite", found(score=float("inf")), not_finite(float("inf"), 1.0, 2.0)),
        bad("score -inf in text", found(score="-inf"), not_finite(float("-inf"), 1.0, 2.0)),
        bad("segment NaN", found(segment=[0, float("nan")]), not_finite(0.5, 0.0, float("nan"))),
        bad(
            "start after end",
            found(segment=[2, 1]),
            detection("segment [2.0, 1.0] ends before it starts; expected start <= end"),
        ),
        bad(
            "1e308",
            found(segment=[-1e308, 1e308]),
            detection("segment [-1e+308, 1e+308] is beyond any video; expected seconds"),
        ),
    ],
)
def test_predictions(content, message, tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    assert_message(refused(read_predictions, path), message)


@pytest.mark.parametrize(
    "content",
    [found(), found(score="0.5", segment=["1", "2"]), found(model="I3D"), b"\xef\xbb\xbf" + found()],
    ids=["numbers", "numbers in text", "more fields", "byte order mark"],
)
def test_predictions_that_are_read(content, tmp_path):
    (tmp_path / "p.json").write_bytes(content)
    expected = {"v": [{"label": "Jump", "score": 0.5, "segment": (1.0, 2.0)}]}
    assert read_predictions(tmp_path / "p.json") == expected


@pytest.mark.slow
def test_a_million_detections(tmp_path):
    count = 1_000_000
    entries = ", ".join(f'{{"label": "Jump", "score": 0.5, "segment": [{i}, {i}.5]}}' for i in range(count))
    (tmp_path / "p.json").write_text(f'{{"results": {{"v": [{entries}]}}}}')
    found = read_predictions(tmp_path / "p.json")["v"]
    assert len(found) == count
    assert found[-1] == {"label": "Jump", "score": 0.5, "segment": (count - 1.0, count - 0.5)}


# Ambiguous intervals


@pytest.mark.parametrize(
    "line",
    [
        "v 1",
        "v 1 2 3",
        "v one two",
        "v 2 1",
        "v -1 2",
        "v nan 2",
        "v 0 inf",
        "v 0 1e300",
        "a\0b 1 2",
        "v,1,2",
    ],
)
def test_ambiguous_intervals(line, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"\n v 0 1\n{line}\n")
    expected = "expected a video name, start and end in seconds on each line"
    assert refused(read_intervals, path) == f"line 3 is {line!r}; {expected}"


def test_ambiguous_intervals_in_another_encoding(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"caf\xe9 1 2\n")
    expected = "expected a video name, start and end in seconds on each line"
    assert refused(read_intervals, path) == f"is not UTF-8 text; {expected}"
    path.write_bytes("\ufeffcafé\t1 2\r\n\r\n".encode())
    assert read_intervals(path) == {"café": [{"label": "Ambiguous", "segment": (1.0, 2.0)}]}
