"""Writes the embedded synthetic data set to disk; see `case-jax synthesize`."""

from case_jax.commands import cli, synthesize

if __name__ == "__main__":
    cli.run(synthesize)
