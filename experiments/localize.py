"""Localises actions: features on disk to detections, tables and subtitles; see `case-jax localize`."""

from case_jax.commands import cli, localize

if __name__ == "__main__":
    cli.run(localize)
