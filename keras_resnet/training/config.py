"""What a training run is, as data: one frozen dataclass, and named recipes as its rows."""

import dataclasses
import json
import math
from pathlib import Path

from keras_resnet.architectures import nearest
from keras_resnet.training.schedules import Schedule, cosine, one_cycle, piecewise, warm_up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A training run.

    Args:
        model: name of the network.
        settings: settings of its architecture.
        dataset: what `keras_resnet.data.sources.open_source` takes: a name or a folder.
        data_dir: where tfds keeps its data, for a name.
        train_split: split to train on.
        test_split: split to measure on after every epoch.
        image_size: height and width of the crops.
        low: least length of a training image's shorter side; None: as 256 is to 224.
        high: greatest length of it; None: as 480 is to 224.
        batch_size: global batch size.
        epochs: how often each example is seen.
        schedule: `"piecewise"`, `"cosine"` or `"one_cycle"`.
        learning_rate: the first rate of the schedule, or its highest.
        boundaries: epochs at which a piecewise schedule divides the rate by 10.
        warmup_epochs: epochs of linear warm-up; of a one-cycle schedule, those of its way up.
        momentum: momentum of SGD.
        weight_decay: coupled weight decay of the kernels.
        label_smoothing: share of a label that goes to all classes.
        dtype: dtype policy of the model.
        strategy: a name of `keras_resnet.training.strategies.STRATEGIES`.
        seed: of initialisation, order and augmentation.
    """

    model: str = "ResNet50"
    settings: tuple[tuple[str, object], ...] = ()
    dataset: str = "imagenet2012"
    data_dir: str | None = None
    train_split: str = "train"
    test_split: str = "validation"
    image_size: int = 224
    low: int | None = None
    high: int | None = None
    batch_size: int = 256
    epochs: int = 120
    schedule: str = "piecewise"
    learning_rate: float = 0.1
    boundaries: tuple[float, ...] = ()
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    dtype: str = "float32"
    strategy: str = "none"
    seed: int = 0

    def __post_init__(self):
        if self.schedule not in _SCHEDULES:
            raise ValueError(
                f"`schedule` must be one of {', '.join(_SCHEDULES)}. Received: {self.schedule!r}."
                + nearest(self.schedule, _SCHEDULES)
            )
        low, high = self.shorter_sides
        if not self.image_size <= low <= high:
            raise ValueError(
                "The crop must fit into the smallest image: image_size <= low <= high. "
                f"Received: image_size={self.image_size}, low={low}, high={high}."
            )

    @property
    def shorter_sides(self) -> tuple[int, int]:
        """Least and greatest length of a training image's shorter side."""
        low, high = (round(self.image_size * length / 224) for length in (256, 480))
        return self.low or low, self.high or high

    def steps_per_epoch(self, num_examples: int) -> int:
        """Whole batches in the data set."""
        if self.batch_size > num_examples:
            raise ValueError(
                "A batch is larger than the data set. "
                f"Received: batch_size={self.batch_size} for {num_examples} examples."
            )
        return num_examples // self.batch_size

    def rate(self, steps_per_epoch: int) -> Schedule:
        """The learning rate as a function of the step."""
        schedule = _SCHEDULES[self.schedule](self, steps_per_epoch)
        warmup = round(self.warmup_epochs * steps_per_epoch)
        return warm_up(warmup, schedule) if warmup and self.schedule != "one_cycle" else schedule

    def save(self, path: Path) -> None:
        """Writes the configuration as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def _piecewise(config: Config, steps: int) -> Schedule:
    boundaries = [math.ceil(epoch * steps) for epoch in config.boundaries]
    return piecewise(boundaries, [config.learning_rate / 10**i for i in range(len(boundaries) + 1)])


_SCHEDULES = {
    "piecewise": _piecewise,
    "cosine": lambda config, steps: cosine(config.epochs * steps, config.learning_rate),
    "one_cycle": lambda config, steps: one_cycle(
        config.epochs * steps, config.learning_rate, warmup=config.warmup_epochs / config.epochs
    ),
}

RECIPES: dict[str, Config] = {
    # 60x10^4 iterations of 256 images are 120 epochs. "When the error plateaus" is here after 30, 60 and 90 of them,
    # which is what fb.resnet.torch made of it.
    "paper": Config(boundaries=(30, 60, 90)),
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
        warmup_epochs=1.5,
        weight_decay=5e-4,
    ),
}
