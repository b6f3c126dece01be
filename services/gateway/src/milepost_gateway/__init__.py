"""The gateway: accepts jobs over HTTP, answers 202 once the broker has stored them, serves their status from Redis.

__main__ → bootstrap → api (FastAPI), adapters (aio-pika, Redis, obstore)
         → core → ports → errors, settings
"""
