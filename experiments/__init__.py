"""Command lines: flags, one frozen config, library calls."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m experiments...` is still importing: Ctrl-C is answered as later
    from case_jax.runs.signals import end_on_signals

    end_on_signals()
