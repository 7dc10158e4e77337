"""Trains and evaluates CASE on THUMOS14, on any data set in its layout, or on the synthetic one. The command `case-jax train`."""

from case_jax.commands import cli, train

if __name__ == "__main__":
    cli.run(train)
