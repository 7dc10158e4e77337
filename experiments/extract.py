"""Extracts I3D features from videos; see `case-jax extract`."""

from case_jax.commands import cli, extract

if __name__ == "__main__":
    cli.run(extract)
