"""Training and evaluation at the size of ActivityNet v1.3, as a user runs them: time and memory.

python -m benchmarks.activitynet --folder=F

Generated features in the size of v1.3 (10,024 and 4,926 videos, 200 classes, 22 GB in float32, 11 GB in
float16 as written here) are written to --folder, and used again from there. The same run on a tenth of the
videos is the peer: memory should be the same.
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
from case_jax.errors import InputError
from experiments import cli

flags.DEFINE_string("folder", None, "where the features are kept")
flags.DEFINE_integer("num_train", 10_024, "training videos", lower_bound=10)
flags.DEFINE_integer("num_test", 4_926, "test videos", lower_bound=10)
flags.DEFINE_integer("num_classes", 200, "classes", lower_bound=1)
flags.DEFINE_integer("width", 1024, "channels of each of the two streams", lower_bound=1)
flags.DEFINE_integer("steps", 500, "training steps", lower_bound=1)
flags.DEFINE_list("flags", [], "more flags of experiments.activitynet, separated by commas")
FLAGS = flags.FLAGS
_ROOT = Path(__file__).parents[1]


def main() -> None:
    folder = Path(cli.require("folder", "a folder on a disk with room for the features"))
    rows = [["videos", "classes", "seconds", "peak memory, GB"]]
    measured = {}
    for name, share in (("a tenth", 10), ("all", 1)):
        num_train, num_test = FLAGS.num_train // share, FLAGS.num_test // share
        where = folder / name.replace(" ", "_")
        _write(where, num_train, num_test)
        seconds, peak = _run(where)
        measured[name] = {"seconds": seconds, "peak_bytes": peak}
        videos = f"{num_train:,} + {num_test:,}"
        rows.append([videos, f"{FLAGS.num_classes}", f"{seconds:.0f}", f"{peak / 1e9:.2f}"])
    harness.finish(
        "activitynet",
        rows,
        ours_s=measured["all"]["seconds"],
        peer="a tenth of the videos",
        peer_s=measured["a tenth"]["seconds"],
        steps=FLAGS.steps,
        peak_bytes=measured["all"]["peak_bytes"],
        peak_bytes_of_a_tenth=measured["a tenth"]["peak_bytes"],
    )


def _write(folder: Path, num_train: int, num_test: int) -> None:
    console = Console(stderr=True)

    def progress(numbers):
        numbers = list(numbers)
        quiet = not console.is_terminal
        return track(numbers, "writing features", console=console, disable=quiet, transient=True)

    write_activitynet_shape(
        folder,
        num_train=num_train,
        num_test=num_test,
        num_classes=FLAGS.num_classes,
        width=FLAGS.width,
        progress=progress,
    )


def _run(data_dir: Path) -> tuple[float, int]:
    """Seconds and peak bytes of a training with one evaluation, of all its processes together."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [
            *(sys.executable, "-m", "experiments.activitynet"),
            f"--flagfile={_ROOT / 'experiments' / 'flags' / 'activitynet13.flags'}",
            f"--data_dir={data_dir}",
            f"--workdir={workdir}",
            f"--num_steps={FLAGS.steps}",
            f"--eval_every={FLAGS.steps}",
            *FLAGS.flags,
        ]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        peak = _Peak(process.pid)
        said, _ = process.communicate()
        seconds = time.perf_counter() - began
        if process.returncode:
            raise InputError(f"--flags: the run ended with status {process.returncode}: {said[-500:]}")
        print(said, file=sys.stderr)
        return seconds, peak.stop()


class _Peak:
    """The most memory that a process and its descendants hold at once, shared pages shared out (Linux)."""

    def __init__(self, process_id: int):
        self._process_id, self._peak, self._going = process_id, 0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes."""
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
        except OSError:  # it has ended meanwhile
            continue
        for child in children:
            found += _with_descendants(int(child))
    return found


def _proportional_bytes(process_id: int) -> int:
    """Anonymous and shared memory; pages of files on disk are the system's to drop, and do not count."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return 1024 * (sizes["Pss_Anon:"] + sizes["Pss_Shmem:"])


if __name__ == "__main__":
    cli.run(main)
