import csv
import io
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.localization.detections import read_predictions
from case_jax.localization.export import as_csv, as_srt, as_webvtt, most_certain


def entry(label, start, end, score=0.9):
    return {"label": label, "score": score, "segment": [start, end]}


# --- CSV

FLOAT = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(',"\r\n\t ='), max_size=6)
ENTRY = st.builds(entry, TEXT, FLOAT, FLOAT, FLOAT)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(results=st.dictionaries(TEXT, st.lists(ENTRY, max_size=3), max_size=3))
def test_csv_gives_back_the_same_names_and_floats(results):
    header, *rows = csv.reader(io.StringIO(as_csv(results), newline=""), strict=True)
    assert header == ["video", "label", "start", "end", "score"]
    expected = [(v, e["label"], *e["segment"], e["score"]) for v, entries in results.items() for e in entries]
    assert [(video, label, *map(float, numbers)) for video, label, *numbers in rows] == expected


def test_csv_to_the_letter():
    results = {
        "v_1": [entry("Long Jump", 0.1, 2.5, 1e-07), entry('say "hi", twice', 3, 4, 0.30000000000000004)],
        "none": [],
        "a,b": [entry("two\nlines", -1.5, 1e22, 1), entry("=1+1", 0, 1), entry("a\rb", 0, 1)],
    }
    assert as_csv(results) == (
        "video,label,start,end,score\n"
        "v_1,Long Jump,0.1,2.5,1e-07\n"
        'v_1,"say ""hi"", twice",3.0,4.0,0.30000000000000004\n'
        '"a,b","two\nlines",-1.5,1e+22,1.0\n'
        '"a,b",=1+1,0.0,1.0,0.9\n'
        '"a,b","a\rb",0.0,1.0,0.9\n'
    )
    assert as_csv({}) == "video,label,start,end,score\n"


# --- the most certain

# Few places and scores: ties, duplicates, touching segments and such without length.
PLACE = st.tuples(st.integers(-4, 12), st.integers(0, 5)).map(lambda s: (s[0] / 2, (s[0] + s[1]) / 2))
CROWD = st.lists(
    st.builds(
        lambda label, span, score: entry(label, *span, score),
        st.sampled_from(["a", "b", "b & c"]),
        PLACE,
        st.sampled_from([0.1, 0.5, 0.7, 0.9]),
    ),
    max_size=20,
)


def overlap(a, b):
    return min(a["segment"][1], b["segment"][1]) > max(a["segment"][0], b["segment"][0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(entries=CROWD, seed=st.randoms(use_true_random=False))
def test_an_entry_is_kept_unless_a_surer_one_of_its_label_overlaps_it(entries, seed):
    kept = most_certain(entries, min_score=0.5)
    assert kept == sorted(kept, key=lambda e: (*e["segment"], e["label"]))
    assert all(any(e is one for one in entries) for e in kept)
    assert all(e["score"] >= 0.5 for e in kept)
    for i, a in enumerate(kept):
        assert not any(a["label"] == b["label"] and overlap(a, b) for b in kept[:i])
    for e in entries:  # a dropped entry is unlikely, or hidden by one that is as sure
        hidden = any(e["label"] == k["label"] and overlap(e, k) and k["score"] >= e["score"] for k in kept)
        assert e["score"] < 0.5 or hidden or any(e is k for k in kept)

    shuffled = seed.sample(entries, len(entries))
    assert most_certain(shuffled, min_score=0.5) == kept


def test_an_entry_that_was_hidden_is_kept_once_the_surer_one_is_gone():
    low, high, other = entry("a", 0, 6, 0.5), entry("a", 5, 9, 0.8), entry("b", 4, 7, 0.6)
    assert most_certain([low, high, other], min_score=0.0) == [other, high]
    assert most_certain([low, other], min_score=0.0) == [low, other]
    assert most_certain([low, high, other], min_score=0.6) == [other, high]
    assert most_certain([low, high, other], min_score=0.9) == []
    # The middle entry is dropped, so it hides nothing.
    chain = [entry("a", 0, 4, 0.9), entry("a", 3, 7, 0.8), entry("a", 6, 9, 0.7)]
    assert most_certain(chain, min_score=0.0) == [chain[0], chain[2]]
    # Of equal scores the earlier entry stays; touching segments do not overlap.
    tied = [entry("a", 2, 4), entry("a", 0, 3), entry("a", 3, 5)]
    assert most_certain(tied, min_score=0.9) == [tied[1], tied[2]]


# --- subtitles


def clock(text, point):
    hours, minutes, seconds, thousandths = re.fullmatch(
        rf"(\d\d+):(\d\d):(\d\d){point}(\d\d\d)", text
    ).groups()
    assert int(minutes) < 60
    assert int(seconds) < 60
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)


def read_blocks(blocks, point):
    """(start ms, end ms, text) of blocks, each a line of times and a line of text."""
    cues = []
    for times, text in blocks:
        start, end = times.split(" --> ")
        cues.append((clock(start, point), clock(end, point), text))
    return cues


def read_webvtt(text):
    assert text.startswith("WEBVTT\n\n")
    blocks = [block.splitlines() for block in text.removeprefix("WEBVTT\n\n").split("\n\n") if block]
    for _, payload in blocks:
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", payload)
    cues = read_blocks(blocks, r"\.")
    for written, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        cues = [(start, end, payload.replace(written, character)) for start, end, payload in cues]
    return cues


def read_srt(text):
    blocks = [block.splitlines() for block in text.split("\n\n") if block]
    assert [block[0] for block in blocks] == [str(i) for i in range(1, len(blocks) + 1)]
    return read_blocks([block[1:] for block in blocks], ",")


# Starts and lengths from microseconds to days; some segments touch.
MOMENT = st.sampled_from([0.0, 0.0004, 0.0005, 0.9996, 1.0, 1.0002, 1.0004, 59.9995, 3599.9999, 360000.0])
TIME = MOMENT | st.floats(-2, 5) | st.floats(0, 1e6)
SPAN = st.tuples(TIME, TIME | st.none(), st.sampled_from([0.0, 1e-5, 0.0004, 0.001, 2.0])).map(
    lambda s: (s[0], s[0] + s[2]) if s[1] is None else tuple(sorted(s[:2]))
)
LABEL = (
    st.sampled_from(["Jump", "a & b", "x --> y", "<i>&amp;", "two\nlines", "x\r\ny\u2028z", "", "Ä"]) | TEXT
)
SHOWN = st.lists(
    st.builds(lambda label, span, score: entry(label, *span, score), LABEL, SPAN, st.floats(0, 1)),
    max_size=12,
)


def text_of(shown):
    return f"{' '.join(shown['label'].splitlines())}  {shown['score']:.2f}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(entries=SHOWN)
def test_subtitles_show_the_most_certain_when_they_happen(entries):
    cues = read_webvtt(as_webvtt(entries, min_score=0.2))
    assert read_srt(as_srt(entries, min_score=0.2)) == [
        (start, end, text.replace("-->", "→")) for start, end, text in cues
    ]
    assert cues == sorted(cues)
    assert all(start < end for start, end, _ in cues)

    shown = most_certain(entries, min_score=0.2)
    left = list(shown)
    for start, end, text in cues:
        # Each cue is a rounded entry. But an entry shorter than a millisecond lasts one, and the next entry
        # of its label starts only after it.
        early = 1.5 if any(start == other[1] for other in cues) else 0.5
        late = 1.5 if end == start + 1 else 0.5
        candidates = [
            e
            for e in left
            if text_of(e) == text
            and abs(start - max(0.0, 1000 * e["segment"][0])) <= early + 1e-6
            and abs(end - max(0.0, 1000 * e["segment"][1])) <= late + 1e-6
        ]
        assert candidates
        left.remove(candidates[0])
    for e in left:  # an entry without a cue has no time of its own
        begin, end = (max(0.0, 1000 * bound) for bound in e["segment"])
        assert end - begin <= 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(entries=st.lists(st.builds(lambda s, p: entry("a", *s, p), SPAN, st.floats(0, 1)), max_size=12))
def test_cues_of_a_label_never_overlap(entries):
    cues = read_webvtt(as_webvtt(entries, min_score=0.0))
    for (_, end, _), (start, _, _) in itertools.pairwise(cues):
        assert end <= start
    long = [
        e for e in most_certain(entries, min_score=0.0) if e["segment"][1] - max(0, e["segment"][0]) >= 0.01
    ]
    assert len(long) <= len(cues) <= len(entries)


def test_webvtt_to_the_letter():
    entries = [
        entry("R&B <b> --> c", 3661.0015, 360000.25, 0.125),
        entry("two\nlines", -3, 0.0004, 0.999),
        entry("two\nlines", 1.5, 2, 0.4),
        entry("unlikely", 1, 2, 0.09),
    ]
    assert as_webvtt(entries, min_score=0.1) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:00.001\ntwo lines  1.00\n\n"
        "00:00:01.500 --> 00:00:02.000\ntwo lines  0.40\n\n"
        "01:01:01.002 --> 100:00:00.250\nR&amp;B &lt;b&gt; --&gt; c  0.12\n"
    )
    assert as_webvtt([], min_score=0.0) == "WEBVTT\n\n"


def test_srt_to_the_letter():
    entries = [entry("R&B <b> --> c", 3661.0015, 360000.25, 0.125), entry("two\r\nlines", -3, 0.5, 0.999)]
    assert as_srt(entries, min_score=0.1) == (
        "1\n00:00:00,000 --> 00:00:00,500\ntwo lines  1.00\n\n"
        "2\n01:01:01,002 --> 100:00:00,250\nR&B <b> → c  0.12\n"
    )
    assert as_srt([], min_score=0.0) == ""


@pytest.mark.parametrize(
    "entries, expected",
    [
        # An instant is shown for a millisecond, and an entry right after it starts later.
        ([entry("a", 1.0001, 1.0002), entry("a", 1.0002, 3)], [(1000, 1001), (1001, 3000)]),
        # An instant at which its label is shown already has no cue.
        ([entry("a", 2, 4), entry("a", 3, 3)], [(2000, 4000)]),
        ([entry("a", 3, 3), entry("a", 3, 3)], [(3000, 3001)]),
        # Both begin before the video, so they start with it.
        ([entry("a", -5, -3), entry("a", -3, 2)], [(0, 1), (1, 2000)]),
        # Segments that touch still touch after rounding.
        ([entry("a", 0, 1.0005), entry("a", 1.0005, 2)], [(0, 1000), (1000, 2000)]),
        # Cues of different labels may overlap.
        ([entry("a", 0, 2), entry("b", 1, 3)], [(0, 2000), (1000, 3000)]),
    ],
)
def test_cues_that_collide_after_rounding(entries, expected):
    assert [cue[:2] for cue in read_webvtt(as_webvtt(entries, min_score=0.0))] == expected
    assert [cue[:2] for cue in read_srt(as_srt(entries, min_score=0.0))] == expected


def test_real_thumos14_detections(shared_data):
    results = read_predictions(shared_data / "thumos14" / "detections_crnet.json")
    rows = list(csv.reader(io.StringIO(as_csv(results), newline=""), strict=True))[1:]
    assert len(rows) == 19827
    assert {row[0] for row in rows} == {video for video, entries in results.items() if entries}
    shown = 0
    for video, entries in results.items():
        kept = most_certain(entries, min_score=0.3)
        cues = read_webvtt(as_webvtt(entries, min_score=0.3))
        assert [text for *_, text in cues] == [f"{e['label']}  {e['score']:.2f}" for e in kept], video
        shown += len(cues)
    assert shown > 1000
