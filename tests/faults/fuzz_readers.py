"""Fuzzes the readers of everything that users hand over.

python -m tests.faults.fuzz_readers -runs=20000

If atheris is installed (pip install atheris), coverage guides the fuzzing, and libFuzzer's flags apply.
Otherwise a seeded generator makes the files; it knows -runs, -seed and -max_total_time (seconds). Either ends
after 10 minutes unless told otherwise. The exit status is 0 if every file was read as something valid or
refused in one line.
"""

import importlib.util
import os
import random
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["by_chance", "main"]

_DEFAULTS = {"runs": 20_000, "max_total_time": 600, "seed": 1, "timeout": 60, "rss_limit_mb": 4096}
_INSTRUMENTED = ["case_jax", "json", "numpy.lib._format_impl", "pickletools", "zipfile"]


def main(arguments: list[str]) -> None:
    """Fuzzes as the arguments say."""
    given = dict(argument.lstrip("-").split("=", 1) for argument in arguments if "=" in argument)
    options = {**_DEFAULTS, **given}
    with tempfile.TemporaryDirectory(prefix="fuzz_readers_") as folder:
        if not importlib.util.find_spec("atheris"):
            runs, seed, limit = (int(options[name]) for name in ("runs", "seed", "max_total_time"))
            runs = by_chance(Path(folder), runs=runs, seed=seed, limit=limit)
            print(f"atheris is not installed: {runs:,} files by a generator of seed {seed}")
            return
        child = os.fork()  # libFuzzer ends the process in which it runs
        if not child:
            _by_coverage([f"-{name}={value}" for name, value in options.items()], Path(folder))
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


def by_chance(folder: Path, *, runs: int, seed: int, limit: float) -> int:
    """Reads files damaged at random, of all kinds in turn.

    Args:
        folder: an empty folder.
        runs: how many files to read.
        seed: determines the damage.
        limit: seconds after which to stop.

    Returns:
        How many files were read or refused.

    Raises:
        AssertionError: if a reader broke a rule of `tests.faults.readers`.
    """
    from tests.faults import readers

    rng, end = random.Random(seed), time.monotonic() + limit
    for run in range(runs):
        if time.monotonic() > end:
            return run
        reader = list(readers.READERS.values())[run % len(readers.READERS)]
        content = readers.damage(
            rng.choice(reader.valid), readers.random_edits(rng), rng.choice(reader.valid)
        )
        _read(readers, reader, folder, content)
    return runs


def _by_coverage(arguments: list[str], folder: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.faults import readers

    names = list(readers.READERS)

    def read_one(data: bytes) -> None:
        chosen = atheris.FuzzedDataProvider(data)
        reader = readers.READERS[names[chosen.ConsumeIntInRange(0, len(names) - 1)]]
        first, other = (chosen.ConsumeIntInRange(0, len(reader.valid) - 1) for _ in range(2))
        edits = []
        for _ in range(chosen.ConsumeIntInRange(0, 6)):
            kind = readers.EDITS[chosen.ConsumeIntInRange(0, len(readers.EDITS) - 1)]
            begin, end = (chosen.ConsumeProbability() for _ in range(2))
            edits.append((kind, begin, end, chosen.ConsumeIntInRange(0, 65535)))
        own = chosen.ConsumeBytes(1 << 12)  # the remaining bytes, to splice in
        _read(readers, reader, folder, readers.damage(reader.valid[first], edits, own or reader.valid[other]))

    atheris.Setup([sys.argv[0], *arguments], read_one)
    atheris.Fuzz()


def _read(readers, reader, folder: Path, content: bytes) -> None:
    try:
        readers.read(reader, folder, content)
    except BaseException:
        print(f"{reader.name} from {content!r}", file=sys.stderr)
        raise
    finally:
        (folder / reader.name).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
