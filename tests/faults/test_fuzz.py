"""Readers of damaged files return a valid result or raise InputError, and open nothing but the file."""

import json
import os
import pickle
import struct
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.dataset import Annotation
from tests.conftest import ROOT
from tests.faults.fuzz_readers import by_chance
from tests.faults.readers import EDITS, READERS, Reader, damage, read
from tests.helpers.files import npy, torch_file

pytestmark = pytest.mark.faults

# The many are others each time; more of them with the variable FUZZ_EXAMPLES.
SOME, MANY = 40, int(os.environ.get("FUZZ_EXAMPLES", "120"))
BUDGETS = [pytest.param(SOME, id="some"), pytest.param(MANY, marks=pytest.mark.slow, id="many")]


def examine(strategy, examples, check):
    """Checks this many examples of a strategy; a few examples are the same each time."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    limits = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples == SOME,
        suppress_health_check=slow,
    )

    def run(example):
        check(example)

    limits(given(strategy)(run))()


# Any edits of valid files


@st.composite
def damaged(draw, reader):
    share = st.floats(0, 1)
    edit = st.tuples(st.sampled_from(EDITS), share, share, st.integers(0, 65535))
    content, other = (draw(st.sampled_from(reader.valid)) for _ in range(2))
    return damage(content, draw(st.lists(edit, min_size=1, max_size=6)), other)


@pytest.mark.parametrize("examples", BUDGETS)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name, examples, tmp_path):
    reader = READERS[name]
    for content in reader.valid:
        assert read(reader, tmp_path, content).message is None
    examine(damaged(reader), examples, lambda content: read(reader, tmp_path, content))


# JSON documents with a part replaced by anything

TEXT = st.text(max_size=6) | st.sampled_from(["\ud800", "\0", "..", "a/b", "NaN", "1e999", "-1", "0x1"])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from([10**400, -(10**18)])
JSON = st.recursive(
    LEAF, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3)
)
DOCUMENTS = {
    name: [json.loads(content) for content in READERS[name].valid]
    for name in ("truth", "predictions", "info")
}


def places(document, place=()):
    """The keys that lead to each place in a document."""
    yield place
    if isinstance(document, dict | list):
        keys = document if isinstance(document, dict) else range(len(document))
        for key in keys:
            yield from places(document[key], (*place, key))


def replaced(document, place, value):
    if not place:
        return value
    key, *rest = place
    changed = dict(document) if isinstance(document, dict) else list(document)
    changed[key] = replaced(changed[key], rest, value)
    return changed


@st.composite
def odd_json(draw, name):
    document = draw(st.sampled_from(DOCUMENTS[name]))
    for _ in range(draw(st.integers(1, 3))):
        document = replaced(document, draw(st.sampled_from(list(places(document)))), draw(JSON))
    return json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("examples", BUDGETS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_with_a_part_replaced_by_anything(name, examples, tmp_path):
    examine(odd_json(name), examples, lambda content: read(READERS[name], tmp_path, content))


# .npy files with any header

DIMENSION = st.integers(-2, 6) | st.sampled_from([2**31, 2**62, 2**64, 10**30, True, None, 1.5, "3"])
HEADER = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(
            ["<f4", ">f8", "<f2", "|u1", "<i8", "|O", "<U3", "<c8", "|b1", "<M8[s]", "|V4"]
        )
        | st.sampled_from(
            ["<f16", "f", "<f0", "|S0", "<q", 3, None, [("x", "<f4")], ("<f4", (2,)), "<f4,<f4"]
        ),
        "fortran_order": st.booleans() | st.sampled_from([None, 1, "no"]),
        "shape": st.tuples(DIMENSION, DIMENSION) | st.lists(DIMENSION, max_size=4).map(tuple) | DIMENSION,
    }
)


@st.composite
def odd_npy(draw):
    header = repr(draw(HEADER)).encode("latin-1").ljust(draw(st.sampled_from([0, 118]))) + b"\n"
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\0\1", b"\xff\xff"]))
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header) + draw(st.integers(-3, 3)))
    return b"\x93NUMPY" + version + size + header + draw(st.binary(max_size=128))


@pytest.mark.parametrize("examples", BUDGETS)
def test_npy_files_with_any_header(examples, tmp_path):
    examine(odd_npy(), examples, lambda content: read(READERS["npy"], tmp_path, content))


# State dicts whose pickles run any opcodes

GLOBALS = [
    f"c{name}\n".encode()
    for name in (
        "collections\nOrderedDict",
        "torch._utils\n_rebuild_tensor_v2",
        "torch._utils\n_rebuild_parameter",
        "torch\nFloatStorage",
        "torch\nBFloat16Storage",
        "os\nsystem",
        "builtins\nexec",
        "numpy\ndtype",
    )
]
TEXTS = [
    b"X" + struct.pack("<I", len(text)) + text
    for text in (b"0", b"a", b"storage", b"__class__", b"__dict__", b"__defaults__")
]
NUMBERED = st.tuples(st.sampled_from(b"Jrj"), st.integers(-(2**31), 2**31 - 1))
OPCODE = (
    st.sampled_from(GLOBALS + TEXTS + [b"q\0", b"h\0"])
    | st.sampled_from([bytes([code]) for code in b"N)(tR}b]sQ\x81\x8602"])
    | st.integers(0, 255).map(lambda code: bytes([code]))
    | NUMBERED.map(lambda opcode: struct.pack("<Bi", *opcode))
)


@pytest.mark.parametrize("examples", BUDGETS)
def test_state_dicts_whose_pickles_run_any_opcodes(examples, tmp_path):
    reader = READERS["state_dict"]

    def check(opcodes):
        read(reader, tmp_path, torch_file({"a": np.ones((2, 2), np.float32)}, opcodes=b"".join(opcodes)))

    examine(st.lists(OPCODE, max_size=8), examples, check)
    # They leave no trace: the next file is read as ever.
    for content in reader.valid:
        assert read(reader, tmp_path, content).message is None


# Valid files are read as they were written


@pytest.mark.parametrize("examples", BUDGETS)
def test_any_real_numbers_are_read_as_they_are(examples, tmp_path):
    dtypes = st.one_of(
        hnp.floating_dtypes(endianness="?"),
        hnp.integer_dtypes(endianness="?"),
        hnp.unsigned_integer_dtypes(endianness="?"),
    )
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)

    def check(array):
        with np.errstate(over="ignore"):
            expected = array.astype(np.float32)
        assume(np.isfinite(expected).all())
        np.testing.assert_array_equal(read(READERS["npy"], tmp_path, npy(array)).result, expected)

    examine(hnp.arrays(dtypes, shapes), examples, check)


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
TIME = st.floats(-1e12, 1e12)
SEGMENT = st.tuples(TIME, TIME).map(lambda times: tuple(sorted(times)))
LABEL = NAME.filter(str.strip)
ENTRY = st.fixed_dictionaries({"label": LABEL, "segment": SEGMENT})


@pytest.mark.parametrize("examples", BUDGETS)
def test_annotations_are_read_as_they_are(examples, tmp_path):
    video = st.fixed_dictionaries({"subset": NAME, "annotations": st.lists(ENTRY, max_size=3)})

    def check(database):
        expected = {
            name: AnnotatedVideo(
                video["subset"], tuple(Annotation(a["label"], *a["segment"]) for a in video["annotations"])
            )
            for name, video in database.items()
        }
        for as_text in (False, True):
            content = {
                name: {
                    **video,
                    "annotations": [
                        {**a, "segment": [str(t) if as_text else t for t in a["segment"]]}
                        for a in video["annotations"]
                    ],
                }
                for name, video in database.items()
            }
            text = json.dumps({"database": content}, ensure_ascii=as_text)
            assert read(READERS["truth"], tmp_path, text.encode()).result == expected

    examine(st.dictionaries(NAME, video, max_size=3), examples, check)


@pytest.mark.parametrize("examples", BUDGETS)
def test_predictions_are_read_as_they_are(examples, tmp_path):
    entry = st.fixed_dictionaries(
        {"label": LABEL, "score": st.floats(allow_nan=False, allow_infinity=False), "segment": SEGMENT}
    )

    def check(results):
        content = json.dumps({"results": results}, ensure_ascii=False).encode()
        assert read(READERS["predictions"], tmp_path, content).result == results

    examine(st.dictionaries(NAME, st.lists(entry, max_size=3), max_size=3), examples, check)


@pytest.mark.parametrize("examples", BUDGETS)
def test_names_are_read_as_they_are(examples, tmp_path):
    name = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="/\\"), min_size=1)

    def check(lines):
        names, end = lines
        assume(not {".", ".."} & set(names))
        content = "".join(f" {name}\t{end}" for name in names).encode()
        assert read(READERS["split"], tmp_path, content).result == names

    ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n \n"])
    examine(st.tuples(st.lists(name, min_size=1, max_size=4, unique=True), ends), examples, check)


# The fuzzer itself


class Hostile:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    "misbehave, found",
    [
        (lambda path: open("/dev/null").close(), "open '/dev/null' 'r'"),
        (lambda path: open(path, "r+").close(), "' 'r\\+'"),
        (lambda path: np.load(path.parent.parent / "x.npy"), None),
        (lambda path: pickle.loads(pickle.dumps(Hostile())), "pickle.find_class"),
        (lambda path: subprocess.run([sys.executable, "-c", ""], check=True), "subprocess.Popen"),
        (lambda path: exec("1"), "exec <code"),
        (lambda path: os.symlink(path, path.with_name("link")), "os.symlink"),
    ],
    ids=["open", "write", "other exception", "unpickle", "command", "exec", "link"],
)
def test_a_reader_that_breaks_a_rule_is_found(misbehave, found, tmp_path):
    reader = Reader("x", misbehave, lambda result: None, ())
    if found is None:
        with pytest.raises(FileNotFoundError):
            read(reader, tmp_path, b"")
    else:
        with pytest.raises(AssertionError, match=found):
            read(reader, tmp_path, b"")


def test_an_invalid_result_is_found(tmp_path):
    reader = READERS["npy"]._replace(read=np.load)  # checks no values
    read(reader, tmp_path, reader.valid[0])
    with pytest.raises(AssertionError):
        read(reader, tmp_path, npy(np.full((1, 1), np.nan, np.float32)))


@pytest.mark.parametrize("runs", [pytest.param(400, id="some"), pytest.param(3_000, marks=pytest.mark.slow)])
def test_the_fuzzer_without_atheris(runs, tmp_path):
    assert by_chance(tmp_path, runs=runs, seed=runs, limit=600) == runs
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_fuzzer_as_a_command(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz_readers", "-runs=2000"],
        cwd=tmp_path,  # where libFuzzer leaves what it found
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert not list(tmp_path.iterdir())
    assert "Done 2000 runs" in result.stderr or "2,000 files" in result.stdout
