"""The variants that are compared, each as its difference from the full method."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from case_jax.method.scores import Foreground

__all__ = [
    "BASELINE",
    "CLUSTERS",
    "EPSILONS",
    "EQUIPARTITION",
    "FULL",
    "HARD",
    "ITERATIONS",
    "MIXED",
    "NO_PRIOR",
    "OWN_HARD",
    "OWN_PREDICTIONS",
    "PLUS",
    "ROWS",
    "SETTLED",
    "SETTLED_ATTENTION",
    "SETTLED_BASELINE",
    "SET_HERE",
    "SIGMAS",
    "WITH_CCC",
    "WITH_SCC",
    "Variant",
    "of_clusters",
]


class Variant(NamedTuple):
    """A row of a table or a point of a figure."""

    name: str
    changes: Mapping[str, Any]  # fields of `CaseConfig` in which training differs from the full method
    foreground: Foreground = "mixed"  # the foreground probability at test time


FULL = Variant("CASE", {})
BASELINE = Variant(
    "baseline", {"scc": False, "ccc": False, "clustering_assisted_testing": False}, foreground="attention"
)
WITH_SCC = Variant("+ SCC", {"ccc": False, "clustering_assisted_testing": False}, foreground="attention")
WITH_CCC = Variant("+ SCC + CCC", {}, foreground="attention")
NO_PRIOR = Variant("Eq. (10) in SCC", {"scc_prior": False})
EQUIPARTITION = Variant("Eq. (9) in CCC", {"ccc_marginal": "uniform"})
OWN_PREDICTIONS = Variant("without OT, soft", {"scc_transport": False})
OWN_HARD = Variant("without OT, hard", {"scc_transport": False, "scc_labels": "hard"})
HARD = Variant("with OT, hard", {"scc_labels": "hard"})

# Beyond the paper (docs/plus.md); PLUS is experiments/flags/case_plus.flags.
_SETTLING = {"settling": 0.1}
_WITHOUT_CAT = {**_SETTLING, "clustering_assisted_testing": False}
_AGREEMENT = {"agreement_from": 0.2}
SETTLED_BASELINE = BASELINE._replace(name="baseline, settled", changes={**BASELINE.changes, **_SETTLING})
SETTLED = Variant("CASE, settled", _WITHOUT_CAT, foreground="attention")
SETTLED_ATTENTION = Variant(
    "+ P^A in CCC", {**_WITHOUT_CAT, "ccc_foreground": "attention"}, foreground="attention"
)
PLUS = SETTLED_ATTENTION._replace(
    name="+ agreed labels: CASE+",
    changes={**SETTLED_ATTENTION.changes, "attention_labels": "agreed", **_AGREEMENT},
)
MIXED = SETTLED_ATTENTION._replace(
    name="P^M's labels in their place",
    changes={**SETTLED_ATTENTION.changes, "attention_labels": "mixed", **_AGREEMENT},
)

ROWS = (
    FULL,
    BASELINE,
    WITH_SCC,
    WITH_CCC,
    NO_PRIOR,
    EQUIPARTITION,
    OWN_PREDICTIONS,
    OWN_HARD,
    HARD,
    SETTLED_BASELINE,
    SETTLED,
    SETTLED_ATTENTION,
    PLUS,
    MIXED,
)
# Fields that rows set. They must have their defaults in the base run, or the rows would not differ as named.
SET_HERE = tuple(dict.fromkeys(name for row in ROWS for name in row.changes))

# Points of curves, whose fields may have any value in the base run.
CLUSTERS = (2, 4, 8, 16, 32, 64)  # K of Figure 3
SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 10.0)
EPSILONS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
ITERATIONS = (1, 3, 10, 50)


def of_clusters(num_clusters: int) -> Variant:
    """A point of Figure 3: the full method with K clusters."""
    return Variant(f"K = {num_clusters}", {"num_clusters": num_clusters})
