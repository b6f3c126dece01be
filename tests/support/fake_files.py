"""Blob storage in memory, for executions."""

from contextlib import contextmanager
from io import BytesIO

from milepost_contracts.values import FileRef


class FakeOutputs:
    """Stores what is written, and fails while `away` is set."""

    def __init__(self, files):
        self.files = files
        self.written = ()
        self.result = None

    @contextmanager
    def create(self, name, *, media_type, as_result):
        if self.files.away:
            raise OSError("no space left")
        file = BytesIO()
        yield file
        self.files.stored[name] = file.getvalue()
        ref = FileRef(name=name, size=len(file.getvalue()), key=name, media_type=media_type)
        if as_result:
            self.result = ref
        else:
            self.written = (*self.written, ref)


class FakeFiles:
    def __init__(self):
        self.stored = {}
        self.away = False

    def open(self, ref):
        return ref

    def outputs(self, job):
        return FakeOutputs(self)
