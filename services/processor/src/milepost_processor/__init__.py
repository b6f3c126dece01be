"""The processor: runs handlers on Dramatiq workers and publishes the events of their jobs.

__main__ → bootstrap → adapters (Dramatiq, RabbitMQ, Redis, blob storage) → core → ports → errors, metrics, settings
"""
