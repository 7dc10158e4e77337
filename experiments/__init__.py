"""Command lines: flags, one frozen config, library calls."""
