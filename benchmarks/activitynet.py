"""Training and evaluation at the size of ActivityNet v1.3, as a user runs them: time and memory.

python -m benchmarks.activitynet --folder=F

Writes generated features of v1.3's size to --folder (10,024 and 4,926 videos, 200 classes; 11 GB in float16,
which would be 22 GB in float32); a second call uses them again. The peer is the same run on a tenth of the
videos: it should need the same memory.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.progress import track

from benchmarks import harness
from benchmarks.activitynet_shape import write_activitynet_shape
from case_jax.commands import cli
from case_jax.errors import InputError

_ROOT = Path(__file__).parents[1]


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    flags.DEFINE_string("folder", None, "where the features are kept", flag_values=given)
    flags.DEFINE_integer("num_train", 10_024, "training videos", lower_bound=10, flag_values=given)
    flags.DEFINE_integer("num_test", 4_926, "test videos", lower_bound=10, flag_values=given)
    flags.DEFINE_integer("num_classes", 200, "classes", lower_bound=1, flag_values=given)
    harness.define_width(given)
    flags.DEFINE_integer("steps", 500, "training steps", lower_bound=1, flag_values=given)
    flags.DEFINE_list(
        "flags", [], "more flags of experiments.activitynet, separated by commas", flag_values=given
    )


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    folder = Path(cli.require(given, "folder", "a folder on a disk with room for the features"))
    rows = [["videos", "classes", "seconds", "peak memory, GB"]]
    measured = {}
    for name, share in (("a tenth", 10), ("all", 1)):
        num_train, num_test = given.num_train // share, given.num_test // share
        where = folder / name.replace(" ", "_")
        _write(where, num_train, num_test, given)
        seconds, peak = _run(where, given.steps, given.flags)
        measured[name] = {"seconds": seconds, "peak_bytes": peak}
        videos = f"{num_train:,} + {num_test:,}"
        rows.append([videos, f"{given.num_classes}", f"{seconds:.0f}", f"{peak / 1e9:.2f}"])
    harness.finish(
        "activitynet",
        rows,
        ours_s=measured["all"]["seconds"],
        peer="a tenth of the videos",
        peer_s=measured["a tenth"]["seconds"],
        steps=given.steps,
        peak_bytes=measured["all"]["peak_bytes"],
        peak_bytes_of_a_tenth=measured["a tenth"]["peak_bytes"],
    )


def _write(folder: Path, num_train: int, num_test: int, given: flags.FlagValues) -> None:
    console = Console(stderr=True)

    def progress(numbers):
        numbers = list(numbers)
        quiet = not console.is_terminal
        return track(numbers, "writing features", console=console, disable=quiet, transient=True)

    write_activitynet_shape(
        folder,
        num_train=num_train,
        num_test=num_test,
        num_classes=given.num_classes,
        width=given.width,
        progress=progress,
    )


def _run(data_dir: Path, steps: int, more_flags: list[str]) -> tuple[float, int]:
    """Seconds of a training with one evaluation, and the peak bytes of all its processes together."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [
            *(sys.executable, "-m", "experiments.activitynet"),
            f"--flagfile={_ROOT / 'experiments' / 'flags' / 'activitynet13.flags'}",
            f"--data_dir={data_dir}",
            f"--workdir={workdir}",
            f"--num_steps={steps}",
            f"--eval_every={steps}",
            *more_flags,
        ]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        peak = _Peak(process.pid)
        printed, _ = process.communicate()
        seconds = time.perf_counter() - began
        if process.returncode:
            raise InputError(f"--flags: the run ended with status {process.returncode}: {printed[-500:]}")
        print(printed, file=sys.stderr)
        return seconds, peak.stop()


class _Peak:
    """The most memory that a process and its descendants hold at once (Linux).

    A page that several processes share is divided among them, so that it counts once.
    """

    def __init__(self, process_id: int):
        self._process_id, self._peak, self._going = process_id, 0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Ends the watching and returns the peak in bytes."""
        self._going = False
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while self._going:
            self._peak = max(self._peak, sum(map(_proportional_bytes, _with_descendants(self._process_id))))
            time.sleep(0.5)


def _with_descendants(process_id: int) -> list[int]:
    found = [process_id]
    for path in Path(f"/proc/{process_id}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # the process has ended meanwhile
            continue
        for child in children:
            found += _with_descendants(int(child))
    return found


def _proportional_bytes(process_id: int) -> int:
    """Anonymous and shared memory. Cached pages of files do not count: the system may drop them."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return 1024 * (sizes["Pss_Anon:"] + sizes["Pss_Shmem:"])


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
