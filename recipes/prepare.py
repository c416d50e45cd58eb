"""Packs a folder of photographs, or an image set of tfds, into TFRecord files that train faster.

The shorter side becomes at most 480 pixels, the most that the paper's recipe needs (JPEG of quality 95); smaller images
are copied as they are. If it is cut off, the same command goes on where it was. The mean image is computed too.

  python recipes/prepare.py --dataset=photos/ --output=packed/
  python recipes/prepare.py --dataset=imagenet2012 --output=/data/imagenet480
  python recipes/imagenet.py --dataset=/data/imagenet480
"""

from pathlib import Path

import common
from absl import flags

_DATASET = flags.DEFINE_string("dataset", None, "Name of a tfds image set, or a folder.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where tfds keeps prepared data.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)
_SPLITS = flags.DEFINE_list("splits", ["train", "validation"], "Splits to pack; one that is not there is left out.")
_SIDE = flags.DEFINE_integer("shorter_side", 480, "Longest that a shorter side may be.", lower_bound=1)
_SHARDS = flags.DEFINE_integer("shards", None, "Files for each split. Default: one for each 256 images.", lower_bound=1)
_MEAN = flags.DEFINE_integer("mean_size", 224, "Height and width of the mean image; 0 for none.", lower_bound=0)
_THREADS = flags.DEFINE_integer("threads", None, "Files written at a time. Default: as many as cores.", lower_bound=1)


def main(_):
    """Packs each split."""
    from keras_resnet.data import prepare
    from keras_resnet.data.sources import open_source
    from keras_resnet.data.splits import NoSuchSplit

    packed = {}
    for name in _SPLITS.value:
        try:
            source = open_source(_DATASET.value, name, data_dir=_DATA_DIR.value)
        except NoSuchSplit:
            if packed:
                continue
            raise
        split = source.split.partition("[")[0]
        if packed.get(split) == source.split:  # "validation" and "test" may be one
            continue
        if split in packed:
            raise ValueError(
                "Of each split one part goes into a folder: name another output for the other. "
                f"Received: {packed[split]}, {source.split}."
            )
        packed[split] = source.split
        made = prepare.pack(source, _OUTPUT.value, _SIDE.value, _SHARDS.value, _MEAN.value or None, _THREADS.value)
        bad = prepare.bad_images(_OUTPUT.value, split)
        print(f"{split}: {made.num_examples} images of {made.num_classes} classes in {_OUTPUT.value}, complete.")
        for name in bad:
            print(f"  left out, cannot be decoded: {name}")
        if bad:
            print(f"  {len(bad)} images left out.")
        if _MEAN.value:
            import numpy as np

            path = Path(_OUTPUT.value) / f"mean-{split}.npy"
            colour = np.load(path).mean(axis=(0, 1)).round(2).tolist()
            print(f"  mean image in {path}; mean colour {colour}")


if __name__ == "__main__":
    common.run(main)
