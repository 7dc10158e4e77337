"""Workers ignore what a terminal sends."""

import signal

from case_jax.runs.signals import ENDING
from case_jax.terminals import OF_TERMINALS, ignore_terminal


def test_a_worker_ignores_its_terminal_and_can_still_be_ended():
    before = {number: signal.getsignal(number) for number in ENDING}
    assert set(before) - set(OF_TERMINALS) == {signal.SIGTERM}
    try:
        ignore_terminal()
        for number in OF_TERMINALS:
            assert signal.getsignal(number) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
