"""Starts and stops a complete Milepost on this machine, to develop and test handlers.

__main__ (the `stack` command), commands (`milepost dev`, `milepost new`), pytest_plugin → develop, scaffold → session →
stack → rabbitmq, redis_server, services → access, processes, install, free_ports → errors, state
"""
