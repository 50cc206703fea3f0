"""Pictures of digits as the classifier sees them: 64 grey levels from 0 (paper) to 16 (ink), row by row."""

import io

import numpy
from PIL import Image

SIDE = 8
INK = 16
# A picture larger than this is refused before it is unpacked.
MAX_PIXELS = 20_000_000


class NotAnImage(ValueError):
    """What was sent cannot be read as a picture."""


def features(data: bytes) -> numpy.ndarray:
    """The 64 grey levels of a picture of any size, in any format that Pillow reads."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise NotAnImage(f"the picture has {image.width}x{image.height} pixels, more than {MAX_PIXELS}")
        grey = on_white(image).convert("L")
    except NotAnImage:
        raise
    except Exception as error:
        raise NotAnImage("not a picture in a format that is known") from error
    if grey.size != (SIDE, SIDE):
        grey = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    levels = numpy.asarray(grey, dtype=float) * (INK / 255)
    return ink_is_bright(levels).round().reshape(-1)


def on_white(image: Image.Image) -> Image.Image:
    """Transparent parts become paper."""
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image)


def ink_is_bright(levels: numpy.ndarray) -> numpy.ndarray:
    """Turns a dark digit on bright paper around: the left and right edges are paper."""
    edges = numpy.concatenate([levels[:, 0], levels[:, -1]])
    return INK - levels if edges.mean() > INK / 2 else levels


def png(levels: numpy.ndarray) -> bytes:
    """The picture of 64 grey levels, bright on dark."""
    grey = (levels.reshape(SIDE, SIDE) * 255 / INK).round().astype("uint8")
    out = io.BytesIO()
    Image.fromarray(grey).save(out, format="PNG", optimize=True)
    return out.getvalue()
