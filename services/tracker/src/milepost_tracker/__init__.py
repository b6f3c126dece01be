"""The tracker: projects what happens at the broker into the status view in Redis, of which it is the only writer.

__main__ → bootstrap → consumer (RabbitMQ), store (Redis) → projector → ports → errors, settings
"""
