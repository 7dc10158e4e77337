"""Names of videos and classes that careless code mixes up."""

# Some look alike; some sort differently by bytes, by UTF-16 or by language.
ODD_NAMES = (
    "v",
    "v ",
    " v",
    "V",
    "",
    "v\0a",  # a NUL inside is kept
    "v\n",
    "é",
    "e\u0301",
    "ß",
    "日本",
    "\uffff",
    "\U0001d4e5",
    "\ud800",  # half of a pair, which JSON can hold
    "10",
    "9",
    "nan",
    "v" * 70,
)
