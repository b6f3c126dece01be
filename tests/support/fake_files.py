"""Blob storage in memory, for executions."""

from contextlib import contextmanager
from io import BytesIO

from milepost_contracts.values import FileRef


class FakeOutputs:
    """Stores what is written, and fails while `away` is set."""

    def __init__(self, files, job_id):
        self.files = files
        self.job_id = job_id
        self.written = ()
        self.result = None

    @contextmanager
    def create(self, name, *, media_type, as_result):
        if self.files.away:
            raise OSError("no space left")
        file = BytesIO()
        yield file
        self.files.stored[name] = file.getvalue()
        ref = FileRef(name=name, size=len(file.getvalue()), key=self._key(name), media_type=media_type)
        if as_result:
            self.result = ref
        else:
            self.written = (*self.written, ref)

    def store_state(self, encoded):
        if self.files.away:
            raise OSError("no space left")
        name = f"state-{len(self.files.stored)}"
        self.files.stored[name] = encoded
        return FileRef(name="state.json", size=len(encoded), key=self._key(name))

    def remove(self, file):
        self.files.stored.pop(_name(file.key), None)

    def _key(self, name):
        return f"jobs/{self.job_id}/{name.encode().hex()}"


def _name(key):
    """Return the name under which a file is stored."""
    return bytes.fromhex(key.rsplit("/", 1)[-1]).decode(errors="replace")


class StoredFile:
    def __init__(self, ref, files):
        self.name = ref.name
        self.size = ref.size
        self._name = _name(ref.key)
        self._files = files

    def open(self):
        if self._name not in self._files.stored:
            raise FileNotFoundError(self._name)
        return BytesIO(self._files.stored[self._name])


class FakeFiles:
    def __init__(self):
        self.stored = {}
        self.away = False

    def open(self, ref):
        return StoredFile(ref, self)

    def outputs(self, job):
        return FakeOutputs(self, job.id)
