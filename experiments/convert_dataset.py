"""Converts the W-TALC line's files to a data set of ours; see `case-jax convert_dataset`."""

from case_jax.commands import cli, convert_dataset

if __name__ == "__main__":
    cli.run(convert_dataset)
