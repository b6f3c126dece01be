"""`rabbitmqctl` for the node of a stack."""

import json
import shutil
import subprocess
import tempfile

from milepost_stack import install


def rabbitmqctl(stack, *words):
    """Run `rabbitmqctl`; raise CalledProcessError if it fails."""
    node = stack.state.process("rabbitmq")
    program = install.Program("rabbitmqctl", ("/usr/lib/rabbitmq/bin/rabbitmqctl",), apt="", brew="").find()
    command = [program, "-n", node.environment["RABBITMQ_NODENAME"], *words]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin", **node.environment}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)


def evaluate(stack, expression):
    """Evaluate an Erlang expression at the node. `erl_call` takes milliseconds; `rabbitmqctl` starts a node for it."""
    if (program := shutil.which("erl_call")) is None:
        rabbitmqctl(stack, "eval", f"{expression}.")
        return
    node = stack.state.process("rabbitmq").environment
    command = [program, "-r", "-address", f"localhost:{node['RABBITMQ_DIST_PORT']}", "-timeout", "20", "-e"]
    words = f"{expression}.\n".encode()
    done = subprocess.run(command, input=words, env=node, check=True, capture_output=True, timeout=60)
    assert done.stdout.startswith(b"{ok,"), done.stdout


def add_users(stack, *names, password):
    """Add users that may do everything, at once: each call of `rabbitmqctl` takes a second."""
    everything = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    users = [{"name": name, "password": password, "tags": ""} for name in names]
    permissions = [{"user": name, **everything} for name in names]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"users": users, "vhosts": [{"name": "/"}], "permissions": permissions}, file)
        file.flush()
        rabbitmqctl(stack, "import_definitions", file.name)
