"""What `import milepost` offers."""

import milepost


def test_everything_public_is_listed_and_there():
    """`__all__` is complete."""
    offered = {
        name
        for name, value in vars(milepost).items()
        if name.isidentifier() and not name.startswith("_") and not hasattr(value, "__path__")
    }
    modules = {"errors", "job", "meter", "pytest_plugin", "run", "testing"}
    assert set(milepost.__all__) == (offered - modules) | {"job"}
