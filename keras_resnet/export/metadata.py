"""The standard metadata of a TFLite file: what goes in, and what the outputs are called.

MediaPipe, Android Studio and ML Kit read it. It is a flatbuffer within the file's own. The labels, and our card, are a
zip archive after its end, which readers of flatbuffers do not look at.
"""

import io
import zipfile

import flatbuffers
import numpy as np

from keras_resnet.cards import CARD_MEMBER, Card

_LABELS = "labels.txt"
_NAME = b"TFLITE_METADATA"

# The tables of `metadata_schema.fbs` that are needed, with their fields in the order of that file.
_TABLES = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license", "associated_files"),
        "min_parser_version",
    ),
    "SubGraphMetadata": ("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units", "stats", "associated_files"),
    ),
    "Content": ("content_properties_type", "content_properties", "range"),
    "FeatureProperties": (),
    "ImageProperties": ("color_space", "default_size"),
    "ImageSize": ("width", "height"),
    "Stats": ("max", "min"),
    "AssociatedFile": ("name", "description", "type"),
}
_FEATURE, _IMAGE = np.uint8(1), np.uint8(2)  # members of the union ContentProperties
_RGB = np.uint8(1)
_TENSOR_AXIS_LABELS = np.uint8(2)


def add_metadata(model: bytes, card: Card) -> bytes:
    """Adds metadata and labels to a TFLite classifier of uint8 RGB images.

    Args:
        model: content of the file: one input, `(batch, size, size, 3)`, one output, `(batch, classes)`.
        card: the card of the network in it.

    Returns:
        The content with metadata.

    Example:
    >>> labelled = add_metadata(Path("resnet20.tflite").read_bytes(), card)  # doctest: +SKIP
    """
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    content = schema.BufferT()
    content.data = np.frombuffer(_metadata(card), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(parsed.buffers)
    parsed.buffers.append(content)
    parsed.metadata = [*(parsed.metadata or ()), entry]
    builder = flatbuffers.Builder(len(model) + (1 << 20))
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output()) + _archive(card)


def read_labels(model: bytes) -> list[str]:
    """The labels in a TFLite file."""
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        return archive.read(_LABELS).decode().splitlines()


def _archive(card: Card) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(_LABELS, "".join(f"{name}\n" for name in card.class_names))
        archive.writestr(CARD_MEMBER, card.to_json())
    return content.getvalue()


def _metadata(card: Card) -> bytes:
    size = np.uint32(card.preprocessing.image_size)
    image = _table("ImageProperties", color_space=_RGB, default_size=_table("ImageSize", width=size, height=size))
    pixels = _table(
        "TensorMetadata",
        name="image",
        description="An RGB image with values from 0 to 255; the file normalises it.",
        content=_table("Content", content_properties_type=_IMAGE, content_properties=image),
        stats=_table("Stats", max=np.float32([255]), min=np.float32([0])),
    )
    labels = _table("AssociatedFile", name=_LABELS, description="Names of the classes.", type=_TENSOR_AXIS_LABELS)
    feature = _table("FeatureProperties")
    probabilities = _table(
        "TensorMetadata",
        name="probability",
        description="The probability of each class.",
        content=_table("Content", content_properties_type=_FEATURE, content_properties=feature),
        stats=_table("Stats", max=np.float32([1]), min=np.float32([0])),
        associated_files=[labels],
    )
    graph = _table("SubGraphMetadata", input_tensor_metadata=[pixels], output_tensor_metadata=[probabilities])
    root = _table(
        "ModelMetadata",
        name=card.network,
        description="An image classifier.",
        subgraph_metadata=[graph],
        min_parser_version="1.0.0",
    )
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, root), file_identifier=b"M001")
    return bytes(builder.Output())


def _table(table: str, /, **fields) -> dict:
    """A table's fields by their slots, and how many slots it has."""
    names = _TABLES[table]
    return {"slots": len(names)} | {names.index(name): value for name, value in fields.items()}


def _write(builder: flatbuffers.Builder, value) -> int:
    """Writes a string, an array of numbers, a list of tables or a table, and gives its place."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_write(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    slots = value["slots"]
    numbers = {np.uint8: builder.PrependUint8Slot, np.uint32: builder.PrependUint32Slot}
    fields = {slot: field for slot, field in value.items() if slot != "slots"}
    places = {slot: _write(builder, field) for slot, field in fields.items() if type(field) not in numbers}
    builder.StartObject(slots)
    for slot, field in fields.items():
        if slot in places:
            builder.PrependUOffsetTRelativeSlot(slot, places[slot], 0)
        else:
            numbers[type(field)](slot, int(field), 0)
    return builder.EndObject()
