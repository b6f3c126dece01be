"""The synchronous SDK is generated from the asynchronous one."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SYNC = ROOT / "libs" / "client" / "src" / "milepost_client" / "_sync"


def test_the_committed_synchronous_client_is_up_to_date(tmp_path):
    """`make contracts` regenerates it; it is not edited by hand."""
    made = tmp_path / "_sync"
    runpy.run_path(str(ROOT / "tools" / "contracts"))["write_sync_client"](made)
    names = {path.name for path in made.glob("*.py")}
    assert names == {path.name for path in SYNC.glob("*.py")}
    for name in sorted(names):
        assert (made / name).read_text() == (SYNC / name).read_text(), "run 'make contracts'"
