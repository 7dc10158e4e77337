"""Runs one command line of the project with several lists of flags, in one process: importing takes longest.

python -m tests.faults.many evaluate < lists.json
"""

import contextlib
import importlib
import io
import json
import sys

from absl.testing import flagsaver

from experiments import cli

__all__ = ["main"]


def main() -> None:
    """Prints [exit status, standard error] of each list of flags that standard input holds, as JSON."""
    module = importlib.import_module(f"experiments.{sys.argv[1]}")
    results = []
    for arguments in json.load(sys.stdin):
        sys.argv[1:] = arguments
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            flagsaver.flagsaver(),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            try:
                cli.run(module.main)
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except Exception as error:
                status = repr(error)
        results.append([status, stderr.getvalue()])
    print(json.dumps(results))


if __name__ == "__main__":
    main()
