"""Converts a PyTorch checkpoint of the published code, and back; see `case-jax convert`."""

from case_jax.commands import cli, convert

if __name__ == "__main__":
    cli.run(convert)
