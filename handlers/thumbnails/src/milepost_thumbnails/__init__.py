"""Thumbnails with Pillow: a handler whose heavy dependency is installed only on the processors of its queue."""

from base64 import b64encode
from io import BytesIO

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from milepost import InputError, Run, job

MAX_PIXELS = 50_000_000


class ThumbnailParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: Pixels of the longer side.
    size: int = Field(default=64, ge=8, le=128)


class Thumbnail(BaseModel):
    name: str
    width: int
    height: int
    #: A JPEG as a `data:` URL.
    image: str


class Thumbnails(BaseModel):
    thumbnails: list[Thumbnail]


@job("thumbnails", queue="images")
def thumbnails(params: ThumbnailParams, run: Run) -> Thumbnails:
    """Make a thumbnail of each image that came with the job."""
    if not run.files:
        raise InputError("there are no images: upload some with the job")
    made = []
    for file in run.track(run.files, unit="images"):
        try:
            with file.open() as stream, Image.open(BytesIO(stream.read())) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(f"{file.name} has {image.width * image.height} pixels; the limit is {MAX_PIXELS}")
                made.append(_thumbnail(file.name, image, params.size))
        except UnidentifiedImageError:
            raise InputError(f"{file.name} is not an image that Pillow can read") from None
        run.emit({"name": file.name, "width": made[-1].width, "height": made[-1].height})
    return Thumbnails(thumbnails=made)


def _thumbnail(name: str, image: Image.Image, size: int) -> Thumbnail:
    small = image.convert("RGB")
    small.thumbnail((size, size))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return Thumbnail(
        name=name,
        width=small.width,
        height=small.height,
        image="data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode(),
    )
