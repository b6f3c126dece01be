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

    def store_state(self, encoded):
        if self.files.away:
            raise OSError("no space left")
        key = f"state-{len(self.files.stored)}"
        self.files.stored[key] = encoded
        return FileRef(name="state.json", size=len(encoded), key=key)

    def remove(self, file):
        self.files.stored.pop(file.key, None)


class StoredFile:
    def __init__(self, ref, files):
        self.name = ref.name
        self.size = ref.size
        self._key = ref.key
        self._files = files

    def open(self):
        if self._key not in self._files.stored:
            raise FileNotFoundError(self._key)
        return BytesIO(self._files.stored[self._key])


class FakeFiles:
    def __init__(self):
        self.stored = {}
        self.away = False

    def open(self, ref):
        return StoredFile(ref, self)

    def outputs(self, job):
        return FakeOutputs(self)
