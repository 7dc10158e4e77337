"""Features on disk to ActivityNet-format detections, tables and subtitles. The command `case-jax localize`."""

from case_jax.commands import cli, localize

if __name__ == "__main__":
    cli.run(localize)
