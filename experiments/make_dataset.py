"""Makes a data set from videos and their labels; see `case-jax make_dataset`."""

from case_jax.commands import cli, make_dataset

if __name__ == "__main__":
    cli.run(make_dataset)
