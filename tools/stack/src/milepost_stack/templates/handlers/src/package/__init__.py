"""The handlers of $name."""

from milepost import InputError, Run, job
from pydantic import BaseModel, ConfigDict, Field


class Text(BaseModel):
    """The params of a job; invalid ones are rejected before the handler runs."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=10_000)


class Counted(BaseModel):
    """The result of a job."""

    words: int
    longest: str


@job("$type", retries=2)
def count_words(params: Text, run: Run) -> Counted:
    """Count the words of a text."""
    words = params.text.split()
    if not words:
        raise InputError("the text has no words")
    longest = ""
    for word in run.track(words, unit="words"):  # progress, rate and ETA; raises here when the job is canceled
        longest = max(longest, word, key=len)
    return Counted(words=len(words), longest=longest)
