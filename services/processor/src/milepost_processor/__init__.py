"""The processor: runs handlers on Dramatiq workers and says on the topic exchange what happens.

__main__ → bootstrap → broker (Dramatiq), courier (aio-pika), gate (Redis), files (blob storage)
         → execution, beacon → registry, ports → errors, settings
"""
