import json
import struct
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from case_jax.runs.workdir import Workdir
from tests.helpers.runs import Training

pytest.importorskip("tensorboardX")


def test_events_hold_every_chunk_every_evaluation_and_the_settings(uninterrupted):
    assert_complete(uninterrupted)


def test_events_of_interrupted_seeds_are_complete_too(dataset, tmp_path):
    training = Training(tmp_path, dataset, seeds=(3, 4))
    for step in (7, 14, 21):
        training.interrupt(step)
    training.train()
    for workdir in training.workdirs:
        assert len(list((workdir.path / "events").iterdir())) == 4
        assert_complete(workdir)


@pytest.fixture
def repeated(training) -> Workdir:
    """A run whose saved states were damaged twice, so that steps were trained again after their events."""
    training.interrupt(7)
    damage(training.workdir, 7)
    training.interrupt(21)
    damage(training.workdir, 21)
    training.train()
    return training.workdir


def test_events_after_the_checkpoint_are_void(repeated):
    written = [event for path in sorted((repeated.path / "events").iterdir()) for event in records_of(path)]
    steps = [event.step for event in written if event.WhichOneof("what") == "summary" and event.step]
    assert steps.count(7) == 2  # the reader ignores one of the two
    assert_complete(repeated)


def test_tensorboard_reads_the_same(repeated):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = accumulators.EventAccumulator(str(repeated.path / "events"))
    accumulator.Reload()
    for tag, values in read_events(repeated).items():
        if tag != "settings/text_summary":
            assert [(e.step, e.value) for e in accumulator.Scalars(tag)] == values
    (settings,) = accumulator.Tensors("settings/text_summary")
    assert (settings.step, len(settings.tensor_proto.string_val)) == (0, 1)


def test_a_finished_run_begins_no_file_of_events(finished, dataset, tmp_path):
    Training(tmp_path, dataset).train()
    assert len(list((finished.path / "events").iterdir())) == 1


def damage(workdir: Workdir, step: int) -> None:
    """Empties the files of the state that an interruption saved."""
    for path in (workdir.interrupted / str(step) / "default").rglob("d/*"):
        path.write_bytes(b"")


def assert_complete(workdir: Workdir) -> None:
    """Checks that the events are those of the history, of the metrics, and the settings."""
    expected = defaultdict(list)
    for row in workdir.history():
        for name, value in row["metrics"].items():
            expected[f"train/{name}"].append((row["step"], as_float32(value)))
    for row in workdir.metrics():
        for tiou, value in zip(row["tiou"], row["map"], strict=True):
            expected[f"test/mAP_{tiou:g}"].append((row["step"], as_float32(value)))
        expected["test/average"].append((row["step"], as_float32(row["average"])))
    assert {"train/loss_video", "train/entropy_clusters", "test/mAP_0.3"} <= set(expected)
    found = read_events(workdir)
    ((step, settings),) = found.pop("settings/text_summary")
    assert step == 0
    assert json.loads(settings) == json.loads((workdir.path / "config.json").read_text())
    assert all(line.startswith("    ") for line in settings.splitlines())  # Markdown shows these as they are
    assert found == expected


def as_float32(value: float) -> float:
    return float(np.float32(value))


def read_events(workdir: Workdir) -> dict[str, list]:
    """Tag -> (step, value) in the order written; the start of a session voids later steps."""
    values = defaultdict(list)
    for path in sorted((workdir.path / "events").iterdir()):
        for event in records_of(path):
            if event.WhichOneof("what") == "session_log":
                for tag in values:
                    values[tag] = [pair for pair in values[tag] if pair[0] < event.step]
            for value in event.summary.value:
                text = value.tensor.string_val
                content = text[0].decode() if text else value.simple_value
                values[value.tag].append((event.step, content))
    return values


def records_of(path: Path) -> list:
    """The events of a file: length, its checksum, an event, its checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events
