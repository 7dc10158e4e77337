"""Published checkpoints and workdirs that are none, or hostile."""

import io
import json
import pickle
import pickletools
import shutil
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from case_jax.data.torch_files import read_state_dict
from case_jax.errors import InputError
from case_jax.localizer import Localizer
from case_jax.runs.workdir import Workdir
from tests.faults.conftest import SETTINGS
from tests.faults.readers import torch_file
from tests.faults.refusals import (
    JSON,
    LONG,
    ONES,
    Trap,
    assert_message,
    assert_refused,
    bad,
    npz,
    refused,
)

pytestmark = pytest.mark.faults


# Published checkpoints

PKL = "expected a state dict as torch.save(model.state_dict(), path) writes it"
STATE = {"a.weight": ONES, "a.bias": ONES[0]}


def global_of(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def called(module, name, argument=b"true"):
    return global_of(module, name) + b"X" + struct.pack("<I", len(argument)) + argument + b"\x85R0"


def compressed():
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(torch_file(STATE))) as archive,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as smaller,
    ):
        for name in archive.namelist():
            smaller.writestr(name, archive.read(name))
    return buffer.getvalue()


def archive_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def number_an_object_2_billion():
    """Opcodes that make a plain reader of pickles take 16 GB: to number None 2^31 - 1."""
    return b"Nr" + struct.pack("<I", 2**31 - 1) + b"0"


def change_a_kind_of_storage():
    """Opcodes that would make all later bfloat16 in the process big-endian."""
    state = pickle.dumps((3, ">", None, None, None, -1, -1, 0), 2)
    return global_of("torch", "BFloat16Storage") + pickletools.optimize(state)[2:-1] + b"b0"


@pytest.mark.parametrize(
    "content, message",
    [
        bad("empty file", b"", f"is no archive of PyTorch 1.6 or newer; {PKL}"),
        bad("plain pickle", lambda: pickle.dumps(Trap()), f"is no archive of PyTorch 1.6 or newer; {PKL}"),
        bad("cut", torch_file(STATE)[:-30], f"is no archive of PyTorch 1.6 or newer; {PKL}"),
        bad("cut at the front", torch_file(STATE)[40:], f"cannot be read (…); {PKL}"),
        bad("npz", npz(ONES), f"cannot be read (it holds no data.pkl); {PKL}"),
        bad(
            "two pickles",
            archive_of(a__data_pkl=b"N.", b__data_pkl=b"N."),
            f"cannot be read (it holds no data.pkl); {PKL}",
        ),
        bad("compressed", compressed(), f"cannot be read (it is compressed, which PyTorch's are not); {PKL}"),
        bad(
            "big-endian",
            archive_of(m__data_pkl=b"N.", m__byteorder=b"big"),
            f"cannot be read (its numbers are not little-endian); {PKL}",
        ),
        bad("None", archive_of(m__data_pkl=b"\x80\2N."), f"holds something else than tensors by name; {PKL}"),
        bad("nothing by name", torch_file({}), f"holds something else than tensors by name; {PKL}"),
        bad(
            "a number by name",
            torch_file(STATE, hostile=3),
            f"holds something else than tensors by name; {PKL}",
        ),
        bad(
            "an object that runs something",
            lambda: torch_file(STATE, hostile=Trap()),
            f"cannot be read (it asks for __builtin__.getattr, which no tensor needs); {PKL}",
        ),
        *(
            bad(
                f"{module}.{name}",
                torch_file(STATE, opcodes=called(module, name)),
                f"cannot be read (it asks for {module}.{name}, which no tensor needs); {PKL}",
            )
            for module, name in (
                ("os", "system"),
                ("posix", "system"),
                ("builtins", "eval"),
                ("builtins", "__import__"),
                ("subprocess", "getoutput"),
                ("torch", "load"),
                ("torch.hub", "load"),
                ("numpy", "load"),
                ("operator", "attrgetter"),
            )
        ),
        bad(
            "an object of number 2^31",
            torch_file(STATE, opcodes=number_an_object_2_billion()),
            f"cannot be read (it numbers an object 2147483647); {PKL}",
        ),
        bad(
            "a string of 2^62 bytes",
            torch_file(STATE, opcodes=b"\x8e" + struct.pack("<Q", 2**62)),
            f"cannot be read (…); {PKL}",
        ),
        bad(
            "a kind of storage that is changed",
            torch_file(STATE, opcodes=change_a_kind_of_storage()),
            f"cannot be read (…); {PKL}",
        ),
    ],
)
def test_published_checkpoints(content, message, tmp_path, trap):
    path = tmp_path / "best_model.pkl"
    path.write_bytes(content() if callable(content) else content)
    assert_message(refused(read_state_dict, path), message)
    # Nothing is left of it: the next file is read as ever.
    assert np.dtype(ml_dtypes.bfloat16).isnative
    path.write_bytes(torch_file(STATE))
    np.testing.assert_array_equal(read_state_dict(path)["a.weight"], ONES)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the process's memory as Linux does")
def test_many_tensors_of_one_storage_take_its_memory_once(tmp_path):
    import resource

    ones = np.ones(2**18, np.float32)
    (tmp_path / "m.pkl").write_bytes(torch_file(dict.fromkeys(map(str, range(2000)), ones)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(read_state_dict(tmp_path / "m.pkl")) == 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; copies would be 2 GB


# Workdirs


def changed(*place, to):
    content = json.loads(json.dumps(SETTINGS.as_json()))
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = to
    return json.dumps(content).encode()


def no_settings(reason):
    return f"is no run's settings ({reason}); expected the file that training wrote"


@pytest.mark.parametrize(
    "content, message",
    [
        bad("missing", None, f"no such file; {JSON}"),
        bad("not JSON", b"{", f"is not JSON (line 1, column 2: …); {JSON}"),
        bad("a list", b"[]", no_settings("list indices must be integers or slices, not str")),
        bad("no method", b"{}", no_settings("'method'")),
        bad(
            "unknown setting",
            changed("method", "new", to=1),
            no_settings("…unexpected keyword argument 'new'"),
        ),
        bad("setting of text", changed("method", "hidden_dim", to="4"), no_settings("'hidden_dim' is '4'")),
        bad(
            "half a snippet", changed("method", "num_snippets", to=8.5), no_settings("'num_snippets' is 8.5")
        ),
        bad(
            "true clusters", changed("method", "num_clusters", to=True), no_settings("'num_clusters' is True")
        ),
        bad(
            "2^40 clusters",
            changed("method", "num_clusters", to=2**40),
            no_settings(f"'num_clusters' is {2**40}"),
        ),
        bad("NaN", changed("method", "gamma", to=float("nan")), no_settings("'gamma' is nan")),
        bad(
            "gamma 2",
            changed("method", "gamma", to=2),
            no_settings("--gamma: is 2; expected between 0 and 1, both excluded"),
        ),
        bad("classes of text", changed("dataset", "classes", to="ab"), no_settings("'classes' is 'ab'")),
        bad("classes of numbers", changed("dataset", "classes", to=[1]), no_settings("'classes' is (1,)")),
        bad(
            "no classes",
            changed("dataset", "classes", to=[]),
            no_settings("'dataset' has no classes or no time of a snippet"),
        ),
        bad("fps 0", changed("dataset", "frames_per_second", to=0), no_settings("float division by zero")),
        bad(
            "fps -1",
            changed("dataset", "frames_per_second", to=-1),
            no_settings("'dataset' has no classes or no time of a snippet"),
        ),
        bad("no widths", changed("stream_widths", to={}), no_settings("'stream_widths' is {}")),
        bad(
            "other streams",
            changed("stream_widths", to={"rgb": 3}),
            no_settings("'stream_widths' is {'rgb': 3}"),
        ),
        bad(
            "width 0",
            changed("stream_widths", "rgb", to=0),
            no_settings("'stream_widths' is {'rgb': 0, 'flow': 3}"),
        ),
        bad(
            "width 1e999",
            changed("stream_widths", "rgb", to=float("inf")),
            no_settings("cannot convert float infinity to integer"),
        ),
        bad("seed -1", changed("seed", to=-1), no_settings("'seed' or 'eval_every' is out of range")),
        bad("seed 10^30", changed("seed", to=10**30), no_settings("'seed' or 'eval_every' is out of range")),
        bad("tIoU 2", changed("tiou", to=[2]), no_settings("'tiou' is (2.0,)")),
        bad("data 3", changed("data", to=3), no_settings("'data' is 3")),
        bad("longest video of text", changed("longest_video", to="5"), no_settings("'longest_video' is '5'")),
    ],
)
def test_config_json(content, message, tmp_path):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    assert_message(refused(lambda path: Workdir(path.parent).settings(), path), message)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"step": 3}',
        b'{"step": "x", "average": 0, "metrics": {}}',
        b'{"step": 1e999, "average": 0, "metrics": {"loss": 1}}',
        b'{"step": -3, "average": 0, "metrics": {"loss": 1}}',
        b'{"step": 3, "average": NaN, "metrics": {"loss": NaN}}',
        b'{"step": 3, "average": null, "metrics": null}',
        b'{"step": 3, "average": [], "metrics": {"loss": "x"}}',
        b'{"step": 3, "average": "x", "metrics": {"lost": 1}}',
        b'{"step": 3, "average": ' + LONG.encode() + b', "metrics": {"loss": ' + LONG.encode() + b"}}",
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:50])[2:-1],
)
def test_rows_of_metrics_and_history(line, workdir, tmp_path):
    for name, read, what, key in (
        ("metrics.jsonl", Workdir.metrics, "evaluation", "average"),
        ("history.jsonl", Workdir.history, "report of training", "metrics"),
    ):
        good = (workdir.path / name).read_bytes()
        (tmp_path / name).write_bytes(good + line + b"\n")
        number = good.count(b"\n") + 1
        assert refused(lambda path, read=read: read(Workdir(path.parent)), tmp_path / name) == (
            f"line {number} is no {what}; expected a JSON object with 'step' and {key!r}"
        )


def test_rows_that_are_no_file(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    assert refused(lambda path: Workdir(path.parent).metrics(), tmp_path / "metrics.jsonl") == (
        "cannot be read (Is a directory); expected one evaluation a line"
    )


def emptied(name):
    return lambda folder: (folder / name).write_bytes(b"")


def file_instead_of(name):
    def run(folder):
        shutil.rmtree(folder / name)
        (folder / name).touch()

    return run


OF_RUN = "expected a checkpoint of this run's settings"


@pytest.mark.parametrize(
    "damage, message",
    [
        bad(
            "file in place of the checkpoints",
            file_instead_of("checkpoints"),
            "{0}/checkpoints: no such folder; expected the checkpoints of a training",
        ),
        bad(
            "file in place of the checkpoint",
            file_instead_of("checkpoints/2"),
            "{0}/checkpoints: holds no checkpoint; expected one from training",
        ),
        bad(
            "empty list of arrays",
            emptied("checkpoints/2/default/_METADATA"),
            f"{{0}}/checkpoints/2: cannot be restored (…); {OF_RUN}",
        ),
        bad(
            "empty index of arrays",
            emptied("checkpoints/2/default/manifest.ocdbt"),
            f"{{0}}/checkpoints/2: cannot be restored (…); {OF_RUN}",
        ),
    ],
)
def test_damaged_checkpoints(damage, message, workdir, tmp_path):
    shutil.copytree(workdir.path, tmp_path / "W")
    Workdir(tmp_path / "W").load()
    damage(tmp_path / "W")
    assert_refused(lambda folder: Workdir(folder).load(), tmp_path / "W", message)


@pytest.mark.parametrize(
    "fps, stride, message",
    [
        (0, 16, "fps: is 0; expected a finite number above 0"),
        (float("nan"), 16, "fps: is nan; expected a finite number above 0"),
        (25, "16", "frames_per_snippet: is '16'; expected a finite number above 0"),
        (1e-300, 1e300, "frames_per_snippet: is 1e+300 with 1e-300 fps; expected snippets of seconds"),
        (10**400, 1, f"frames_per_snippet: is 1 with {10**400} fps; expected snippets of seconds"),
    ],
)
def test_times_that_cannot_be_computed_with(fps, stride, message):
    localizer = Localizer(SETTINGS, SETTINGS.fresh_state())
    with pytest.raises(InputError) as raised:
        localizer.localize({"rgb": ONES, "flow": ONES}, fps, stride)
    assert str(raised.value) == message
