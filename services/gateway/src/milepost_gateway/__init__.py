"""The gateway: accepts jobs over HTTP, answers 202 once the broker has them, serves their status from Redis.

__main__ → bootstrap → api (FastAPI), broker (aio-pika), store (Redis), blobs (obstore)
         → submission, status, catalogue → ports → errors, settings
"""
