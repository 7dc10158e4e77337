"""Speed, measured against named peers: `python -m benchmarks.NAME`; each ends with one line of JSON."""
