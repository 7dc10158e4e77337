"""Looks at a data set before it is trained on; see `case-jax check`."""

from case_jax.commands import check, cli

if __name__ == "__main__":
    cli.run(check)
