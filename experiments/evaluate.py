"""Scores a prediction file in ActivityNet form; see `case-jax evaluate`."""

from case_jax.commands import cli, evaluate

if __name__ == "__main__":
    cli.run(evaluate)
