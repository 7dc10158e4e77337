"""Trains and evaluates CASE on ActivityNet v1.2 or v1.3; see `case-jax train`."""

from case_jax.commands import cli, train

if __name__ == "__main__":
    cli.run(train)
