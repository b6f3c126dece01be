"""What `import milepost` offers."""

import milepost


def test_all_lists_every_public_name():
    """`__all__` is complete."""
    public = {
        name
        for name, value in vars(milepost).items()
        if name.isidentifier() and not name.startswith("_") and not hasattr(value, "__path__")
    }
    modules = {
        "attempt",
        "errors",
        "files",
        "job",
        "json_form",
        "masking",
        "meter",
        "pytest_plugin",
        "run",
        "signature",
        "subprocesses",
        "testing",
    }
    assert set(milepost.__all__) == (public - modules) | {"job"}
