"""The paper's experiments, and every command as `python -m experiments.NAME` from a checkout."""

import sys

if sys.argv[:1] == ["-m"]:  # while Python still imports the module, Ctrl-C ends in one line, too
    from case_jax.runs.signals import end_on_signals

    end_on_signals()
