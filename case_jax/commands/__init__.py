"""What `case-jax NAME` and `python -m experiments.NAME` run: flags, one config, calls of the library.

Each module is one command. Its docstring is what --help prints first; `define_flags` defines its flags on
absl's `FlagValues` that it is given, and `main` runs with the values that were parsed.
"""

import importlib
import sys

from case_jax.commands import jax_variables as jax_variables  # first of all, before anything imports jax

__all__ = ["COMMANDS", "main"]

# command -> module of experiments/ that runs it in a checkout
COMMANDS = {
    "train": "thumos",
    "evaluate": "evaluate",
    "refine": "refine",
    "localize": "localize",
    "report": "report",
    "check": "check_data",
    "convert": "convert_checkpoint",
    "synthesize": "synthesize",
    "extract": "extract",
    "make_dataset": "make_dataset",
    "convert_dataset": "convert_dataset",
}


def main(argv: list[str] | None = None) -> None:
    """Runs `case-jax NAME --flag=value ...`.

    Args:
        argv: the program's name and its arguments; default ``sys.argv``.

    Raises:
        SystemExit: with status 2 if there is no such command, else as `case_jax.commands.cli.run`.
    """
    from case_jax.runs.signals import end_on_signals  # imports next to nothing

    end_on_signals()  # Ctrl-C ends the program in one line while it is still importing
    program, *arguments = sys.argv if argv is None else argv
    name = arguments[0] if arguments else ""
    if name in ("--help", "-h", "help", "--version"):
        print(_version() if name == "--version" else _help())
        return
    if name not in COMMANDS:
        wrong = f"{name}: is not a command" if name else "case-jax: has no command"
        print(f"error: {wrong}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    from case_jax.commands import cli

    cli.run(_module(name), [f"{program} {name}", *arguments[1:]])


def _module(name: str):
    return importlib.import_module(f"case_jax.commands.{name}")


def _version() -> str:
    from case_jax import __version__

    return f"case_jax {__version__}"


def _help() -> str:
    lines = [_version(), "", "case-jax NAME --flag=value ...", ""]
    for name in COMMANDS:
        first, *_ = (_module(name).__doc__ or "").splitlines()
        lines.append(f"  {name:<17}{first}")
    return "\n".join([*lines, "", "case-jax NAME --help lists the flags of a command."])
