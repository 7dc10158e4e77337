"""A guard for programs that must not reach for a network."""

__all__ = ["GUARD"]

# The beginning of such a program. The first attempt ends it, whatever would have caught an exception.
GUARD = """
import os, sys

def refuse(event, arguments):
    _, _, call = event.partition("socket.")
    if call in ("connect", "getaddrinfo", "gethostbyname", "sendto", "sendmsg"):
        print("network:", event, arguments, file=sys.stderr, flush=True)
        os._exit(99)

sys.addaudithook(refuse)
"""
