"""Learns a second stage from a trained run; see `case-jax refine`."""

from case_jax.commands import cli, refine

if __name__ == "__main__":
    cli.run(refine)
