"""Law 10: the gateway imports no worker and no handler."""

import subprocess
import sys


def test_starting_the_gateway_loads_no_worker_and_no_handler():
    """A worker's heavy dependencies are not imported, even if they are installed."""
    program = "import sys, milepost_gateway.__main__; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(completed.stdout.split())
    assert "fastapi" in loaded
    assert set() == loaded & {"dramatiq", "pika", "milepost", "milepost_basics", "milepost_thumbnails", "PIL"}
