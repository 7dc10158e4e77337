"""Data sets: reading them from disk, generating a synthetic one, and sampling snippets from videos."""
