"""The tracker: projects events into the status view in Redis, of which it is the only writer.

__main__ → bootstrap → adapters (RabbitMQ, Redis, HTTP) → core → ports → errors, metrics, settings
"""
