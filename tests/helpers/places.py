"""Places at which no file can be read."""

import os

import pytest


def _folder(path):
    path.mkdir()


def _link_to_nothing(path):
    path.symlink_to(path.with_name("gone"))


def _link_to_itself(path):
    path.symlink_to(path)


def _locked(path):
    path.touch(mode=0o000)
    if os.access(path, os.R_OK):
        pytest.skip("nothing is locked for root")


# (makes such a place at a path, the reason that a reader tells)
PLACES = [
    pytest.param(lambda path: None, "no such file", id="missing"),
    pytest.param(_folder, "Is a directory", id="folder"),
    pytest.param(_link_to_nothing, "no such file", id="link to nothing"),
    pytest.param(_link_to_itself, "Too many levels of symbolic links", id="link to itself"),
    pytest.param(_locked, "Permission denied", id="locked"),
]
