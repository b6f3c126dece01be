"""What `import milepost` offers."""

import milepost


def test_everything_public_is_listed_and_there():
    """`__all__` is complete."""
    offered = {
        name for name, value in vars(milepost).items() if not name.startswith("_") and not hasattr(value, "__path__")
    }
    modules = {"errors", "job", "meter", "run", "testing"}
    assert set(milepost.__all__) == (offered - modules) | {"job"}
