"""A grant: the MAC with which a gateway lets a job run (law 11).

It freezes what the job is and whose it is: its id, run, tenant, type, queue and creation, and where its news go. Each
run has a grant of its own. All other services copy it; nobody without the id keys can make one. It is no secret.
"""

import pydantic_core

from milepost_contracts.ids import GRANT, Keyring
from milepost_contracts.values import Job


def granted(job: Job, keyring: Keyring) -> Job:
    """Return the job with the grant of its run."""
    return job.model_copy(update={"grant": keyring.seal(_granted_text(job), GRANT)})


def is_granted(job: Job, keyring: Keyring) -> bool:
    """Whether a gateway of this deployment has let this run of the job run, as what it says that it is."""
    return job.grant is not None and keyring.is_sealed(_granted_text(job), job.grant, GRANT)


def _granted_text(job: Job) -> str:
    identity = (job.id, job.run, job.tenant, job.type, job.queue, job.created_at)
    return pydantic_core.to_json((*identity, job.tags, job.batch, job.callback_url)).decode()
