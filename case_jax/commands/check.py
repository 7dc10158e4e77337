"""Looks at a data set before it is trained on.

python -m experiments.check_data --flagfile=experiments/flags/activitynet12.flags --data_dir=D

The exit status is 1 if training would refuse the data set. Flags of training may be given, so that its
flagfiles may be; they have no effect.
"""

import json
import sys

from absl import flags
from rich.console import Console
from rich.progress import track

from case_jax.commands import cli, hardware, inputs
from case_jax.data.doctor import Diagnosis, diagnose
from case_jax.report.tables import format_table

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_boolean(
        "values", True, "read all features, to find values that are not finite", flag_values=given
    )
    flags.DEFINE_boolean("json", False, "print one JSON object in place of the table", flag_values=given)
    inputs.define_flags(given, num_seeds=1)
    hardware.define_flags(given)
    cli.define_config_flags(given)


def main(given: flags.FlagValues) -> None:
    """Examines the data set and prints the table, or JSON; exits with 1 if training would refuse it."""
    data_dir = cli.require(given, "data_dir", "a data set's folder")
    console = Console(stderr=True, soft_wrap=True)

    def progress(videos):
        videos = list(videos)
        return track(
            videos, "reading features", console=console, disable=not console.is_terminal, transient=True
        )

    result = diagnose(data_dir, values=given.values, strict=given.strict, progress=progress)
    print(json.dumps(_as_json(result)) if given.json else _as_text(result))
    if result.refused:
        sys.exit(1)


def _as_text(result: Diagnosis) -> str:
    rows = [["looked for", "train", "test", "what is done about it"]]
    for f in result.findings:
        rows.append([f.what, f"{f.counts['train']:,}", f"{f.counts['test']:,}", f.then if f.total else ""])
    examples = [f"{f.what}: for example {f.example}" for f in result.findings if f.total]
    verdict = "training would refuse this data set" if result.refused else "this data set can be trained on"
    parts = ["\n".join(result.facts), format_table(rows, left=(0, 3)), "\n".join(examples), verdict]
    return "\n\n".join(part for part in parts if part)


def _as_json(result: Diagnosis) -> dict:
    return {
        "facts": list(result.facts),
        "findings": [finding._asdict() for finding in result.findings],
        "refused": result.refused,
    }
