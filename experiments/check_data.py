"""Looks at a data set before anyone trains on it. The command `case-jax check`."""

from case_jax.commands import cli, check

if __name__ == "__main__":
    cli.run(check)
