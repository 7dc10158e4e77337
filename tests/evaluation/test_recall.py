import numpy as np
import pytest

from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.recall import average_recall

TIOU = np.arange(10, 20) / 20


def slow_average_recall(truth, found, thresholds, max_proposals):
    """ActivityNet's definition in plain loops; ``truth`` and ``found`` map videos to lists of entries."""
    total = sum(len(found.get(v, [])) for v in truth)
    share = max_proposals * len(truth) / total
    kept = {}
    for v in truth:
        ranked = sorted(found.get(v, []), key=lambda e: (-e["score"], e["segment"]))
        kept[v] = ranked[: min(int(len(ranked) * share + 1e-9), len(ranked))]
    num_kept = sum(map(len, kept.values()))
    numbers, recalls = [], []
    for percent in range(1, 101):
        part = percent / 100 * (max_proposals * len(truth) / num_kept)
        row = []
        for threshold in thresholds:
            hits = instances = 0
            for v, entries in truth.items():
                few = kept[v][: min(int(len(kept[v]) * part + 1e-9), len(kept[v]))]
                for entry in entries:
                    (a, b), instances = entry["segment"], instances + 1
                    tious = []
                    for proposal in few:
                        c, d = proposal["segment"]
                        shared = max(0.0, min(b, d) - max(a, c))
                        tious.append(shared / ((b - a) + (d - c) - shared))
                    hits += any(t >= threshold for t in tious)
            row.append(hits / instances)
        numbers.append(part * num_kept / len(truth))
        recalls.append(row)
    return np.array(numbers), np.array(recalls).T


def entries(rng, count, score=True):
    starts, lengths = rng.uniform(0, 50, count), rng.uniform(1, 30, count)
    scores = rng.choice([0.1, 0.5, 0.9], count) if score else np.zeros(count)
    return [
        {"label": "", "segment": (float(s), float(s + n)), "score": float(p)}
        for s, n, p in zip(starts, lengths, scores)
    ]


@pytest.mark.parametrize("max_proposals", [1, 7.5, 100])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_plain_loops(seed, max_proposals):
    rng = np.random.default_rng(seed)
    truth = {f"v{i}": entries(rng, rng.integers(1, 5), score=False) for i in range(6)}
    found = {
        f"v{i}": entries(rng, rng.integers(0, 40)) for i in range(1, 7)
    }  # v0 has no proposals, v6 no ground truth
    result = average_recall(make_segments(truth), make_segments(found), TIOU, max_proposals=max_proposals)
    numbers, recalls = slow_average_recall(truth, found, TIOU, max_proposals)
    np.testing.assert_allclose(result.num_proposals, numbers)
    np.testing.assert_allclose(result.per_tiou, recalls)
    assert result.num_proposals[-1] == pytest.approx(max_proposals)
    assert (np.diff(result.per_tiou, axis=1) >= 0).all()
    assert 0 <= result.area <= 1


def test_a_curve_computed_by_hand():
    # The surest proposal equals one instance; the other proposal has tIoU 0.5 with the other instance.
    truth = make_segments({"v": [{"label": "a", "segment": (0, 10)}, {"label": "b", "segment": (20, 30)}]})
    found = make_segments(
        {
            "v": [
                {"label": "c", "segment": (20, 25), "score": 0.5},
                {"label": "c", "segment": (0, 10), "score": 0.9},
            ]
        }
    )
    result = average_recall(truth, found, [0.5, 0.6], max_proposals=2)
    assert result.at(2) == pytest.approx((1 + 0.5) / 2)
    assert result.at(1) == pytest.approx(0.5)
    # AR is 0 below one proposal, 0.5 up to two, and 0.75 at two; the area adds trapezoids between hundredths.
    x = np.arange(1, 101) / 50
    y = np.where(x < 1, 0, np.where(x < 2, 0.5, 0.75))
    assert result.area == pytest.approx(np.trapezoid(y, x) / 2)


def test_one_proposal_may_find_two_instances():
    truth = make_segments({"v": [{"label": "a", "segment": (0, 10)}, {"label": "b", "segment": (1, 11)}]})
    found = make_segments({"v": [{"label": "", "segment": (0, 11), "score": 1.0}]})
    assert average_recall(truth, found, [0.9], max_proposals=1).at(1) == 1


def test_rounding_loses_no_proposal():
    truth = make_segments({"v": [{"label": "a", "segment": (0, 10)}]})
    for count in range(1, 200):
        found = [{"label": "", "segment": (0, 10), "score": 1 / (i + 1)} for i in range(count)]
        assert average_recall(truth, make_segments({"v": found}), [0.5], max_proposals=1).at(1) == 1


def test_without_anything_to_measure_it_is_an_error():
    some = make_segments({"v": [{"label": "a", "segment": (0, 10), "score": 1.0}]})
    none = make_segments({})
    for truth, found, tiou in ((none, some, [0.5]), (some, none, [0.5]), (some, some, [])):
        with pytest.raises(ValueError, match="needs at least one ground truth, one threshold"):
            average_recall(truth, found, tiou)
    with pytest.raises(ValueError, match=r"max_proposals=0\.5 keeps no proposal at all"):
        average_recall(some, some, [0.5], max_proposals=0.5)
