from case_jax.runs.narrator import Narrator


def test_by_default_nothing_is_printed(capfd):
    narrator = Narrator()
    narrator.say("a line")
    with narrator.progress("training", 0, 10) as show:
        show(5, {"loss": 1.0}, [None], [None])
    assert capfd.readouterr() == ("", "")
