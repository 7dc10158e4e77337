"""A synthetic two-stream data set on which the method's premise holds. It is NOT real video.

What it imitates, and why:
- Every class consists of several *sub-actions*, one of which is *salient*: it alone tells the class at a
  glance, so finding it satisfies a video-level loss. The other sub-actions look much like those of other
  classes.
- All sub-actions share a weak "something moves" direction and recur from video to video. So clusters of
  snippets can be recognized as foreground although no video label says so.
- The videos of all classes share a few *background* scenes.
- *Context* (the run-up, the pitch) surrounds actions: it is background that correlates with the class.
- Every video has its own *style*, an offset of all its snippets.
- The two streams confuse different things. In the first stream (appearance) a class resembles its neighbour,
  and context looks like the action; in the second (motion) it resembles another class, and context looks like
  background.

The seed alone determines everything, in float64 numpy; it is the same on every platform that rounds alike.
"""

import dataclasses

import numpy as np

from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import DatasetInfo

__all__ = ["WORLDS", "SyntheticSpec", "make_synthetic_dataset"]


@dataclasses.dataclass(frozen=True)
class SyntheticSpec:
    """The size and difficulty of a synthetic world. A strength is the length of a vector of features."""

    num_train: int = 96
    num_test: int = 48
    num_classes: int = 6
    width: int = 128  # channels of each stream
    min_snippets: int = 60
    max_snippets: int = 200
    action: tuple[int, int] = (5, 14)  # shortest and longest action, snippets
    gap: tuple[int, int] = (
        30,
        70,
    )  # shortest and longest time from one action's context to the next's, snippets
    context_rate: float = 0.6  # probability of context before an action, and of context after it
    stray_context_rate: float = 0.5  # probability of context without its action in a gap
    sub_actions: int = 4  # per class; the first one is salient
    backgrounds: int = 12  # scenes
    salient: float = 8.0  # strength of the salient sub-action
    ordinary: float = 2.5  # strength of the other sub-actions
    motion: float = 1.5  # strength of what all sub-actions share
    background: float = 2.0  # strength of a scene
    context: float = 2.5  # strength of context
    style: float = 0.8  # strength of a video's style
    noise: float = 0.6  # standard deviation per channel and snippet
    confusion: float = 0.6  # share of a class's direction that its look-alike has, too

    def __post_init__(self):
        if not self.action[0] + 4 <= self.min_snippets <= self.max_snippets:
            raise ValueError(
                f"min_snippets must be from {self.action[0] + 4} (shortest action + 4) to max_snippets, "
                f"got {self.min_snippets} and {self.max_snippets}"
            )


# "hard" has classes that are more alike, in more noise; in "long", actions fill 44 % of the time.
WORLDS = {
    "default": SyntheticSpec(),
    "hard": SyntheticSpec(noise=0.8, confusion=0.9, salient=6.0, context=3.0),
    "long": SyntheticSpec(action=(10, 40), gap=(15, 50)),
}


def make_synthetic_dataset(seed: int = 0, spec: SyntheticSpec | None = None) -> Dataset:
    """Generates the data set.

    Args:
        seed: determines everything.
        spec: size and difficulty.

    Returns:
        `Dataset` with streams "rgb" and "flow", (T_v, spec.width) float32 each, at 25 frames per second and
        16 frames per snippet.

    Example:
        >>> spec = SyntheticSpec(num_train=2, num_test=1, num_classes=2)
        >>> data = make_synthetic_dataset(0, spec)
        >>> data.train.videos[0].name, data.stream_widths, len(data.test.videos)
        ('synthetic_train_0000', {'rgb': 128, 'flow': 128}, 1)
    """
    spec = spec or SyntheticSpec()
    rng = np.random.default_rng(seed)
    info = DatasetInfo(classes=tuple(f"Action{i + 1:02d}" for i in range(spec.num_classes)))
    world = {stream: _World(rng, spec, shift) for shift, stream in enumerate(info.streams, start=1)}

    def split(subset: str, count: int) -> Split:
        videos = [
            _make_video(rng, spec, info, world, f"synthetic_{subset}_{i:04d}", i % spec.num_classes)
            for i in range(count)
        ]
        return Split(subset, tuple(videos))

    return Dataset(info, split(info.train_subset, spec.num_train), split(info.test_subset, spec.num_test))


class _World:
    """The directions of one stream's feature space; class i resembles class i + ``shift``."""

    def __init__(self, rng: np.random.Generator, spec: SyntheticSpec, shift: int):
        def directions(*shape):
            vectors = rng.standard_normal((*shape, spec.width))
            return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

        own = directions(spec.num_classes)
        look_alike = np.roll(own, -shift, axis=0)
        classes = own + spec.confusion * look_alike
        motion = spec.motion * directions(1)[0]

        # (class, sub-action, width): the salient one shows the class; the others show a kind of movement that
        # neighbouring classes share.
        self.sub_actions = motion + np.zeros((spec.num_classes, spec.sub_actions, spec.width))
        self.sub_actions[:, 0] += spec.salient * classes
        movements = directions(spec.sub_actions - 1, (spec.num_classes + 1) // 2)
        for label in range(spec.num_classes):
            shared = movements[:, (label + shift - 1) % spec.num_classes // 2]
            self.sub_actions[label, 1:] += spec.ordinary * (shared + 0.25 * own[label])

        self.backgrounds = spec.background * directions(spec.backgrounds)
        # Classes share kinds of context (a pitch, a run-up). In it, the first stream (appearance) also shows
        # the class; the second (motion) hardly does.
        visible = 0.4 if shift == 1 else 0.1
        kinds = directions((spec.num_classes + 1) // 2)[np.arange(spec.num_classes) // 2]
        self.contexts = spec.context * (kinds + visible * own)


_BACKGROUND, _CONTEXT = -2, -1


def _make_video(
    rng: np.random.Generator,
    spec: SyntheticSpec,
    info: DatasetInfo,
    world: dict[str, _World],
    name: str,
    main_class: int,
) -> Video:
    length = int(rng.integers(spec.min_snippets, spec.max_snippets + 1))
    classes = [main_class]
    if rng.random() < 0.3:
        classes.append(int(rng.integers(spec.num_classes)))
    label, kind, instances = _script(rng, spec, length, classes)

    features = {}
    scene = rng.integers(spec.backgrounds, size=length // 12 + 1).repeat(12)[:length]
    for stream, directions in world.items():
        clean = directions.backgrounds[scene]
        clean[kind == _CONTEXT] = 0.5 * clean[kind == _CONTEXT] + directions.contexts[label[kind == _CONTEXT]]
        acting = kind >= 0
        clean[acting] = 0.3 * clean[acting] + directions.sub_actions[label[acting], kind[acting]]
        style = rng.standard_normal(spec.width) * spec.style / np.sqrt(spec.width)
        noise = rng.standard_normal((length, spec.width)) * spec.noise
        features[stream] = (clean + style + noise).astype(np.float32)

    seconds = info.seconds_per_snippet
    annotations = tuple(
        Annotation(info.classes[c], round(begin * seconds, 2), round(end * seconds, 2))
        for c, begin, end in instances
    )
    return Video(name, features, annotations)


def _script(
    rng: np.random.Generator, spec: SyntheticSpec, length: int, classes: list[int]
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Writes a video's script.

    Returns:
        (T_v,) int class of each snippet; (T_v,) int kind of each snippet: `_BACKGROUND`, `_CONTEXT` or its
        sub-action; and the action instances (class, first snippet, the snippet after the last).
    """
    label = np.zeros(length, np.int64)
    kind = np.full(length, _BACKGROUND)
    instances: list[tuple[int, int, int]] = []
    position = int(rng.integers(3, 12))
    while position < length - 12 or not instances:
        missing = [c for c in classes if c not in {i[0] for i in instances}]
        acting = missing[0] if missing else int(rng.choice(classes))
        before, after = rng.integers(0, 6, size=2) * (rng.random(2) < spec.context_rate)
        begin = min(position + int(before), length - spec.action[0] - 1)
        end = min(begin + int(rng.integers(*spec.action)), length - 1)
        label[max(0, begin - before) : end + after] = acting
        kind[max(0, begin - before) : begin] = _CONTEXT
        kind[end : end + after] = _CONTEXT
        kind[begin:end] = _sub_action_sequence(rng, spec, end - begin)
        instances.append((acting, begin, end))
        position = end + int(after) + int(rng.integers(*spec.gap))
        # Context of any class also occurs without its action: that makes it background.
        stray = end + int(after) + 4
        if rng.random() < spec.stray_context_rate and stray + 4 < min(position, length):
            label[stray : stray + 4] = rng.integers(spec.num_classes)
            kind[stray : stray + 4] = _CONTEXT
    return label, kind, instances


def _sub_action_sequence(rng: np.random.Generator, spec: SyntheticSpec, length: int) -> np.ndarray:
    """(length,) int sub-action of each snippet: all of them, in runs, in random order, as far as they fit."""
    cuts = np.linspace(0, length, spec.sub_actions + 1).round().astype(int)
    return np.repeat(rng.permutation(spec.sub_actions), np.diff(cuts))
