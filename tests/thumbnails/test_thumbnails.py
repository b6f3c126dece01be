"""The handler with a heavy dependency of its own."""

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


def test_an_image_becomes_a_thumbnail_of_the_same_shape():
    """The longer side has the size asked for."""
    outcome = run_handler(thumbnails, {"size": 32}, files=[picture(640, 320)])
    (made,) = outcome.result["thumbnails"]
    assert (32, 16) == (made["width"], made["height"])
    image = Image.open(BytesIO(b64decode(made["image"].removeprefix("data:image/jpeg;base64,"))))
    assert ((32, 16), "JPEG") == (image.size, image.format)
    assert ({"name": "teal.png", "width": 32, "height": 16},) == outcome.items.last


@pytest.mark.parametrize("files", [[], [MemoryFile("a.txt", b"text")]])
def test_what_is_no_image_is_an_error_that_helps(files):
    """The job fails with words, not with a traceback."""
    with pytest.raises(InputError):
        run_handler(thumbnails, {}, files=files)
