"""A handler with secret params that does all it can to tell them."""

import hashlib
import logging
import time
from datetime import timedelta

from pydantic import BaseModel, SecretStr

from milepost import Run, job

log = logging.getLogger(__name__)


class Login(BaseModel):
    user: str
    password: SecretStr


class Fetch(BaseModel):
    token: SecretStr
    logins: list[Login] = []
    do: str = "return"


@job("fetch", retries=1, backoff=timedelta(milliseconds=100))
def fetch(params: Fetch, run: Run) -> dict[str, str]:
    """Fetch something with a token."""
    secrets = [params.token.get_secret_value(), *(login.password.get_secret_value() for login in params.logins)]
    run.progress(1, 2, f"with {secrets} and {params!r}")
    log.warning("calling with %s", secrets)
    time.sleep(0.2)  # so that its progress is published
    if params.do == "raise":
        raise ValueError(f"401 for {secrets}")
    return {"digests": " ".join(hashlib.sha256(one.encode()).hexdigest() for one in secrets)}
