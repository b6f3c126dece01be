"""Starts and stops a whole Milepost on this machine.

__main__ (command line) → stack → rabbitmq, redis_server, services → processes → install, ports → errors, state
"""
