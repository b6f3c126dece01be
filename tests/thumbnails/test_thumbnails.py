"""The thumbnails handler, which has a heavy dependency of its own."""

from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from milepost import InputError
from milepost.testing import MemoryFile, run_handler
from milepost_thumbnails import thumbnails


def picture(width, height):
    buffer = BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return MemoryFile("teal.png", buffer.getvalue())


def test_a_thumbnail_has_the_aspect_ratio_of_its_image():
    """Its longer side has the requested size."""
    outcome = run_handler(thumbnails, {"size": 32}, files=[picture(640, 320)])
    (made,) = outcome.result["thumbnails"]
    assert (32, 16) == (made["width"], made["height"])
    image = Image.open(BytesIO(b64decode(made["image"].removeprefix("data:image/jpeg;base64,"))))
    assert ((32, 16), "JPEG") == (image.size, image.format)
    assert ({"name": "teal.png", "width": 32, "height": 16},) == outcome.items.last


@pytest.mark.parametrize("files", [[], [MemoryFile("a.txt", b"text")]])
def test_input_without_an_image_is_an_input_error(files):
    """The job fails with a message and without a traceback."""
    with pytest.raises(InputError):
        run_handler(thumbnails, {}, files=files)
