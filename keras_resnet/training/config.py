"""What a training run is, as data: one frozen dataclass, and named recipes as its rows."""

import dataclasses
import json
import math
import typing
from typing import Any

from keras_resnet.architectures import nearest
from keras_resnet.preprocessing import NAMED as PREPROCESSING
from keras_resnet.training.schedules import Schedule, cosine, linearly_scaled, one_cycle, piecewise, warm_up

# What a continued run may have otherwise: where things lie and how often they are written does not change the network.
_MAY_DIFFER = ("data_dir", "tpu", "checkpoint_steps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A training run. Points of time are shares of the run, so that a shorter run has the same schedule, shorter.

    Args:
        model: name of the network.
        settings: settings of its architecture, as pairs of name and value.
        weights: what it starts from: a tag, or a file of weights; random numbers if None.
        load_head: whether its classifier is loaded too.
        trainable: `"all"`, or `"head"`: the classifier alone.
        dataset: what `keras_resnet.data.sources.open_source` takes: a name or a folder.
        data_dir: where prepared data lies, for a name.
        train_split: split to train on.
        test_split: split to measure on after every epoch.
        augmentation: a name of `AUGMENTATIONS`.
        preprocessing: name of the normalisation.
        image_size: height and width of the crops.
        low: least length of a training image's shorter side; None: as 256 is to 224.
        high: greatest length of it; None: as 480 is to 224.
        batch_size: global batch size.
        epochs: how often each example is seen.
        steps: training steps, in place of epochs.
        schedule: `"piecewise"`, `"cosine"`, `"one_cycle"` or `"plateau"`.
        learning_rate: the first rate of the schedule, or its highest; None: 0.1 for each 256 images of a batch.
        final_rate: the last rate of cosine and one cycle.
        boundaries: where in the run a piecewise schedule divides the rate by 10.
        patience: epochs without progress after which the plateau schedule does.
        warmup: share of the run that the rate takes to rise.
        warmup_rate: the rate it rises from.
        warmup_until_error: training error below which `warmup_rate` ends, in place of a share of the run.
        optimizer: `"sgd"` or `"lamb"`.
        momentum: momentum of SGD.
        nesterov: whether it is Nesterov's.
        momentum_correction: whether a new rate holds for all of the momentum at once, as PyTorch's does.
        weight_decay: coupled weight decay of the kernels.
        decay_all: whether gammas, betas and biases are decayed too.
        loss: `"cross_entropy"`, or `"binary"`: of each class by itself.
        label_smoothing: share of a label that goes to all classes.
        ema: momentum of the weights' moving average, which is what is kept at the end; None: no average.
        precise_statistics: batches from which batch normalisation's statistics are made anew at the end.
        dtype: dtype policy of the network.
        strategy: a name of `STRATEGIES`: how training is distributed.
        tpu: name or address of the TPU, for that strategy; None: what the environment names, or this machine's.
        all_reduce: how gradients are summed: `"nccl"`, `"hierarchical"` or `"ring"`; None: as TensorFlow chooses.
        seed: of initialisation, order and augmentation.
        deterministic: whether the same seed must give the same bits.
        checkpoint_steps: steps between checkpoints, besides the one after each epoch.

    Example:
    >>> dataclasses.replace(RECIPES["cifar-paper"], model="ResNet56").total_steps(50_000)
    64000
    """

    model: str = "ResNet50"
    settings: tuple[tuple[str, Any], ...] = ()
    weights: str | None = None
    load_head: bool = False
    trainable: str = "all"
    dataset: str = "imagenet2012"
    data_dir: str | None = None
    train_split: str = "train"
    test_split: str = "validation"
    augmentation: str = "paper"
    preprocessing: str = "paper"
    image_size: int = 224
    low: int | None = None
    high: int | None = None
    batch_size: int = 256
    epochs: float = 120
    steps: int | None = None
    schedule: str = "piecewise"
    learning_rate: float | None = 0.1
    final_rate: float = 0.0
    boundaries: tuple[float, ...] = ()
    patience: int = 5
    warmup: float = 0.0
    warmup_rate: float = 0.0
    warmup_until_error: float | None = None
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    momentum_correction: bool = False
    weight_decay: float = 1e-4
    decay_all: bool = False
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    ema: float | None = None
    precise_statistics: int = 0
    dtype: str = "float32"
    strategy: str = "none"
    tpu: str | None = None
    all_reduce: str | None = None
    seed: int = 0
    deterministic: bool = False
    checkpoint_steps: int = 1000

    def __post_init__(self):
        for field in _FIELDS:
            value = _tuples(getattr(self, field.name))  # JSON and flags have lists
            object.__setattr__(self, field.name, value)
            if not _fits(value, field.type):
                kind = getattr(field.type, "__name__", field.type)
                raise ValueError(f"`{field.name}` must be {kind}. Received: {value!r}.")
        for name, (least, below) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value < below:
                end = f" and less than {below}" * math.isfinite(below)
                raise ValueError(f"`{name}` must be at least {least}{end}. Received: {value!r}.")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                known = [str(choice) for choice in choices]
                hint = nearest(str(value), known)
                raise ValueError(f"`{name}` must be one of {', '.join(known)}. Received: {value!r}.{hint}")
        low, high = self.shorter_sides
        if not self.image_size <= low <= high:
            raise ValueError(
                "The crop must fit into the smallest image: image_size <= low <= high. "
                f"Received: image_size={self.image_size}, low={low}, high={high}."
            )
        if [*self.boundaries] != sorted({share for share in self.boundaries if 0 < share < 1}):
            raise ValueError(f"`boundaries` are increasing shares of the run. Received: {self.boundaries}.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"`warmup` is a share of the run, from 0 to less than 1. Received: {self.warmup}.")
        if self.steps is None and not self.epochs:
            raise ValueError("A run has `epochs` or `steps`. Received: epochs=0, steps=None.")
        if self.warmup_until_error is not None and (self.warmup_rate <= 0 or self.schedule == "plateau"):
            raise ValueError(
                "`warmup_until_error` needs a `warmup_rate` above 0, to learn by, and another schedule than plateau. "
                f"Received: warmup_rate={self.warmup_rate}, schedule={self.schedule!r}."
            )

    @property
    def highest_rate(self) -> float:
        """The learning rate, also where it goes by the batch."""
        return linearly_scaled(0.1, self.batch_size) if self.learning_rate is None else self.learning_rate

    @property
    def shorter_sides(self) -> tuple[int, int]:
        """Least and greatest length of a training image's shorter side."""
        low, high = (round(self.image_size * length / 224) for length in (256, 480))
        return self.low or low, self.high or high

    def steps_per_epoch(self, num_examples: int) -> int:
        """Whole batches in the data set."""
        if self.batch_size > num_examples:
            raise ValueError(
                "A batch is larger than the data set: take a smaller batch_size. "
                f"Received: batch_size={self.batch_size} for {num_examples} examples."
            )
        return num_examples // self.batch_size

    def total_steps(self, num_examples: int) -> int:
        """Steps of the whole run."""
        return self.steps or max(1, round(self.epochs * self.steps_per_epoch(num_examples)))

    def rate(self, total_steps: int) -> Schedule:
        """The learning rate as a function of the step."""
        schedule = _SCHEDULES[self.schedule](self, total_steps)
        rise = round(self.warmup * total_steps)
        if not rise or self.schedule == "one_cycle":
            return schedule
        return warm_up(rise, schedule, min(self.warmup_rate, schedule(rise)))  # never down, where the rate is low

    def to_json(self) -> str:
        """The configuration as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The configuration that `to_json` wrote."""
        return cls(**{name: _tuples(value) for name, value in json.loads(text).items()})

    def differences(self, other: "Config") -> list[str]:
        """Names and values of what makes another run of this one."""
        pairs = [(field.name, getattr(self, field.name), getattr(other, field.name)) for field in _FIELDS]
        return [f"{name}: {a!r} -> {b!r}" for name, a, b in pairs if a != b and name not in _MAY_DIFFER]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _fits(value: Any, kind: Any) -> bool:
    kinds = (tuple,) if typing.get_origin(kind) is tuple else typing.get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, (*kinds, int) if float in kinds else kinds)


def _piecewise(config: Config, steps: int) -> Schedule:
    boundaries = [math.ceil(round(share * steps, 6)) for share in config.boundaries]
    return piecewise(boundaries, [config.highest_rate / 10**i for i in range(len(boundaries) + 1)])


_SCHEDULES = {
    "piecewise": _piecewise,
    "cosine": lambda config, steps: cosine(steps, config.highest_rate, config.final_rate),
    "one_cycle": lambda config, steps: one_cycle(steps, config.highest_rate, config.warmup, config.final_rate),
    "plateau": lambda config, steps: piecewise([], [config.highest_rate]),  # what a callback divides
}
STRATEGIES = ("none", "one_device", "mirrored", "multi_worker", "tpu")
ALL_REDUCE = ("nccl", "hierarchical", "ring")
AUGMENTATIONS = ("paper", "inception", "modern", "cifar")
_CHOICES = {
    "schedule": tuple(_SCHEDULES),
    "trainable": ("all", "head"),
    "augmentation": AUGMENTATIONS,
    "preprocessing": tuple(PREPROCESSING),
    "optimizer": ("sgd", "lamb"),
    "loss": ("cross_entropy", "binary"),
    "strategy": STRATEGIES,
    "all_reduce": (None, *ALL_REDUCE),
    "dtype": ("float32", "mixed_bfloat16", "mixed_float16"),
}
_RANGES = {
    **dict.fromkeys(
        ("image_size", "low", "high", "batch_size", "steps", "patience", "checkpoint_steps"), (1, math.inf)
    ),
    **dict.fromkeys(("epochs", "learning_rate", "final_rate", "warmup_rate", "weight_decay"), (0, math.inf)),
    **dict.fromkeys(("precise_statistics", "seed"), (0, math.inf)),
    **dict.fromkeys(("momentum", "label_smoothing", "ema"), (0, 1)),
}
_FIELDS = dataclasses.fields(Config)

_CIFAR = Config(
    model="ResNet20",
    dataset="cifar10",
    test_split="test",
    augmentation="cifar",
    preprocessing="cifar10",
    image_size=32,
    low=32,
    high=32,
    batch_size=128,
)
_CIFAR_PAPER = dataclasses.replace(_CIFAR, steps=64_000, boundaries=(0.5, 0.75))

RECIPES: dict[str, Config] = {
    # 60x10^4 iterations of 256 images. "When the error plateaus" is here after 30, 60 and 90 of 120 epochs, which is
    # what fb.resnet.torch made of it.
    "paper": Config(steps=600_000, boundaries=(0.25, 0.5, 0.75)),
    "paper-plateau": Config(steps=600_000, schedule="plateau"),
    # Goyal et al. 2017: 8192 images a batch, the rate linear in that, five epochs of warm-up. Their network has its
    # stride on the 3x3 and starts with residual branches of zero.
    "goyal90": Config(
        settings=(("stride_on", "3x3"), ("zero_init_residual", True)),
        augmentation="inception",
        preprocessing="torch",
        batch_size=8192,
        epochs=90,
        learning_rate=None,
        boundaries=(30 / 90, 60 / 90, 80 / 90),
        warmup=5 / 90,
        warmup_rate=0.1,
        momentum_correction=True,
    ),
    # After A3 of "ResNet strikes back" (Wightman, Touvron, Jegou 2021): LAMB, each class by itself, 100 epochs at 160.
    "a3": Config(
        settings=(("stride_on", "3x3"), ("zero_init_residual", True)),
        augmentation="modern",
        preprocessing="torch",
        image_size=160,
        batch_size=2048,
        epochs=100,
        schedule="cosine",
        learning_rate=8e-3,
        final_rate=1e-6,
        warmup=0.05,
        warmup_rate=1e-4,
        optimizer="lamb",
        weight_decay=0.02,
        loss="binary",
    ),
    # Section 4.2.
    "cifar-paper": _CIFAR_PAPER,
    # There: "we use 0.01 to warm up the training until the training error is below 80%". Here that of the epoch so far.
    "cifar-paper-110": dataclasses.replace(_CIFAR_PAPER, model="ResNet110", warmup_until_error=0.8, warmup_rate=0.01),
    # With 40 epochs ResNet-20 ended at 9.13 % (one run, seed 0), with 80 at 8.60 %; the paper has 8.75 %.
    "cifar-fast": dataclasses.replace(
        _CIFAR,
        epochs=80,
        schedule="one_cycle",
        learning_rate=0.4,
        warmup=0.2,
        nesterov=True,
        weight_decay=5e-4,
        dtype="mixed_bfloat16",
    ),
    "finetune": Config(
        augmentation="inception", preprocessing="torch", batch_size=32, epochs=10, schedule="cosine", learning_rate=0.01
    ),
    # Small and short: what a network of 0.3 million parameters learns of the drawn pictures in minutes, without a GPU.
    "demo": Config(
        model="ResNet20",
        dataset="demo",
        test_split="test",
        image_size=64,
        low=64,
        high=96,
        batch_size=32,
        epochs=4,
        schedule="one_cycle",
        learning_rate=0.1,
        warmup=0.375,
        weight_decay=5e-4,
    ),
}
