"""TensorBoard's events are those of the history and of the metrics, however often a run was interrupted."""

import json
import struct
import sys
from collections import defaultdict

import numpy as np
import pytest

from case_jax.runs.events import Events, open_events
from case_jax.runs.workdir import Workdir
from tests.helpers.runs import SETTINGS, Listener, contents

pytest.importorskip("tensorboardX")


def damage(workdir, step):
    for path in (workdir.interrupted / str(step) / "default").rglob("d/*"):
        path.write_bytes(b"")


def test_events_hold_every_row_and_the_settings(uninterrupted):
    assert_complete(uninterrupted)


@pytest.mark.slow
def test_each_of_many_seeds_has_its_events(together):
    for workdir in together:
        assert_complete(workdir)


def test_events_of_an_interrupted_run_are_complete(training):
    for step in (6, 12, 18):
        training.interrupt(step)
    training.train()
    assert len(list(training.workdir.events.iterdir())) == 4
    assert_complete(training.workdir)


@pytest.fixture
def gone_back(training):
    """A run whose state was damaged, so that training went back over steps that have events already."""
    for step in (6, 18):
        training.interrupt(step)
        damage(training.workdir, step)
    training.train()
    return training.workdir


@pytest.mark.slow
def test_events_after_the_checkpoint_are_void(gone_back):
    written = [event for path in sorted(gone_back.events.iterdir()) for event in records_of(path)]
    steps = [event.step for event in written if event.WhichOneof("what") == "summary" and event.step]
    assert steps.count(6) == 2  # the reader is to ignore one of them
    assert_complete(gone_back)


@pytest.mark.slow
def test_tensorboard_reads_the_same(gone_back):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = accumulators.EventAccumulator(str(gone_back.events))
    accumulator.Reload()
    for tag, values in read_events(gone_back).items():
        if tag != "settings/text_summary":
            assert [(e.step, e.value) for e in accumulator.Scalars(tag)] == values
    (settings,) = accumulator.Tensors("settings/text_summary")
    assert (settings.step, len(settings.tensor_proto.string_val)) == (0, 1)


def test_a_finished_run_begins_no_file_of_events(training, finished):
    before = sorted(finished.events.iterdir())
    training.train()
    assert sorted(finished.events.iterdir()) == before


def test_files_of_one_second_are_read_in_the_order_written(tmp_path):
    workdir = Workdir(tmp_path)
    for step in (0, 1, 2):
        events = Events(SETTINGS, workdir, step)
        events.losses({"step": step + 1, "metrics": {"loss": float(step)}})
        events.close()
    assert read_events(workdir)["train/loss"] == [(1, 0.0), (2, 1.0), (3, 2.0)]


def test_without_tensorboardx_there_are_no_events(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    listener = Listener()
    with open_events(SETTINGS, Workdir(tmp_path), listener, 0) as events:
        assert events is None
    (line,) = listener.lines
    assert "tensorboardX is not installed" in line
    assert contents(tmp_path) == {}


def assert_complete(workdir):
    """The events are those of the history, of the metrics, and the settings."""
    expected = defaultdict(list)
    for row in workdir.history():
        for name, value in row["metrics"].items():
            expected[f"train/{name}"].append((row["step"], as_float32(value)))
    for row in workdir.metrics():
        for tiou, value in zip(row["tiou"], row["map"], strict=True):
            expected[f"test/mAP_{tiou:g}"].append((row["step"], as_float32(value)))
        expected["test/average"].append((row["step"], as_float32(row["average"])))
        for name, value in row["health"].items():
            expected[f"health/{name}"].append((row["step"], as_float32(value)))
    assert {"train/loss_video", "train/entropy_clusters", "test/mAP_0.3"} <= set(expected)
    found = read_events(workdir)
    ((step, settings),) = found.pop("settings/text_summary")
    assert step == 0
    assert json.loads(settings) == json.loads(workdir.config.read_text())
    assert all(line.startswith("    ") for line in settings.splitlines())  # Markdown shows it as it is
    assert found == expected


def as_float32(value):
    return float(np.float32(value))


def read_events(workdir):
    """Tag -> (step, value) as a reader should take them: the start of a session voids later steps."""
    values = defaultdict(list)
    for path in sorted(workdir.events.iterdir()):
        for event in records_of(path):
            if event.WhichOneof("what") == "session_log":
                for tag in values:
                    values[tag] = [pair for pair in values[tag] if pair[0] < event.step]
            for value in event.summary.value:
                text = value.tensor.string_val
                content = text[0].decode() if text else value.simple_value
                values[value.tag].append((event.step, content))
    return values


def records_of(path):
    """The events of a file: length, its checksum, an event, its checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events
