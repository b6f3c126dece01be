"""`rabbitmqctl` for the node of a stack."""

import subprocess

from milepost_stack import install


def rabbitmqctl(stack, *words):
    """Run `rabbitmqctl`; raise CalledProcessError if it fails."""
    node = stack.state.process("rabbitmq")
    program = install.Program("rabbitmqctl", ("/usr/lib/rabbitmq/bin/rabbitmqctl",), apt="", brew="").find()
    command = [program, "-n", node.environment["RABBITMQ_NODENAME"], *words]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin", **node.environment}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
