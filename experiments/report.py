"""Evaluates a run again and writes its report; see `case-jax report`."""

from case_jax.commands import cli, report

if __name__ == "__main__":
    cli.run(report)
