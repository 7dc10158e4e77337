"""A resumable run in a folder: its settings, files and checkpoints, its training and what came out of it."""
