"""TensorBoard's events of one run."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from case_jax.data.files import writing
from case_jax.runs.narrator import Narrator
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

__all__ = ["Events", "open_events"]


@contextlib.contextmanager
def open_events(
    settings: RunSettings, workdir: Workdir, narrator: Narrator, step: int
) -> Iterator["Events | None"]:
    """The events of a run; None, and a word to the narrator, where tensorboardX is not installed.

    Args:
        settings: of the run.
        workdir: of the run.
        narrator: is told if there will be no events.
        step: where training goes on.

    Yields:
        `Events` or None.
    """
    try:
        import tensorboardX  # noqa: F401, optional
    except ImportError:
        narrator.say("no TensorBoard events: tensorboardX is not installed (extra 'plots')")
        yield None
        return
    with contextlib.closing(Events(settings, workdir, step)) as events:
        yield events


class Events:
    """Writes events in the thread that trains; one report takes 0.04 ms."""

    _FLUSH_AFTER = 10.0  # seconds; TensorBoard itself looks every 30 s

    def __init__(self, settings: RunSettings, workdir: Workdir, step: int):
        """Begins a file.

        Args:
            settings: of the run; written into the first file.
            workdir: of the run.
            step: where training goes on; events of later steps in other files are declared void.

        Raises:
            InputError: if the file cannot be written.
        """
        from tensorboardX import event_file_writer, proto, summary

        self._event, self._summary = proto.event_pb2.Event, proto.summary_pb2.Summary
        self._folder = workdir.events
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
            # Readers sort files by name, and names hold whole seconds; the number sorts files of one second.
            number = f".{len(list(self._folder.iterdir())):06d}"
            self._writer = event_file_writer.EventsWriter(str(self._folder / "events"), number)
        log = proto.event_pb2.SessionLog(status=proto.event_pb2.SessionLog.START)
        self._write(step + 1 if step else 0, session_log=log)
        if not step:
            text = json.dumps(settings.as_json(), indent=1)
            self._write(0, summary=summary.text("settings", "    " + text.replace("\n", "\n    ")))
        self._flush()

    def losses(self, row: Mapping[str, Any]) -> None:
        """Writes a row of `history.jsonl`.

        Raises:
            InputError: if it cannot be written.
        """
        self._scalars(row["step"], {f"train/{name}": value for name, value in row["metrics"].items()})
        if time.monotonic() - self._flushed > self._FLUSH_AFTER:
            self._flush()

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Writes a row of `metrics.jsonl`; afterwards all events so far are on disk.

        Raises:
            InputError: if it cannot be written.
        """
        maps = {f"test/mAP_{tiou:g}": value for tiou, value in zip(row["tiou"], row["map"])}
        health = {f"health/{name}": value for name, value in row.get("health", {}).items()}
        self._scalars(row["step"], {**maps, "test/average": row["average"], **health})
        self._flush()

    def close(self) -> None:
        """Writes what is left.

        Raises:
            InputError: if it cannot be written.
        """
        with writing(self._folder):
            self._writer.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        named = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step, summary=self._summary(value=named))

    def _write(self, step: int, **content) -> None:
        with writing(self._folder):
            self._writer.write_event(self._event(step=step, wall_time=time.time(), **content))

    def _flush(self) -> None:
        with writing(self._folder):
            self._writer.flush()
        self._flushed = time.monotonic()
