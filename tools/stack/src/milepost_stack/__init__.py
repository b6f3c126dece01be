"""Starts and stops a whole Milepost on this machine, to develop handlers with and to test them.

__main__ (the `stack` command), commands (`milepost dev`, `milepost new`), pytest_plugin → develop, scaffold → session →
stack → rabbitmq, redis_server, services → processes, install, ports → errors, state
"""
