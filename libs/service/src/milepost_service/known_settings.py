"""The names of the settings of every part of Milepost: another variable with our prefix is a mistake."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from milepost_service.exemptions import Exemption
from milepost_service.lists import split_words

PREFIX = "MILEPOST_"
FILE_SUFFIX = "_FILE"

#: Settings that may be given as a file: `MILEPOST_ID_KEYS_FILE`.
SECRETS = frozenset({"API_KEY", "ID_KEYS", "METRICS_TOKEN", "RABBITMQ_URL", "REDIS_URL", "SEAL_KEYS", "WEBHOOK_KEYS"})

#: All others. Services share their environment with the client, the stack and Compose.
OTHERS = frozenset(
    {
        "ACCESS_FILE",
        "ALLOW",
        "BATCH_SIZE",
        "BLOBS_URL",
        "CANCEL_GRACE",
        "CLAIM_PATIENCE",
        "CONFIG",
        "CONSUMER_TIMEOUT",
        "CORS_ORIGINS",
        "DELIVERY_LIMIT",
        "DOCS",
        "DRAIN_TIMEOUT",
        "GATEWAY_USERS",
        "HANDLERS",
        "HEALTH_HOST",
        "HEALTH_PORT",
        "HEARTBEAT",
        "HOST",
        "HOSTS",
        "LIVE_FOR",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "LOG_MAX_BYTES",
        "MAX_BODY",
        "MAX_FILES",
        "MAX_UPLOAD",
        "NAMESPACE",
        "OPEN",
        "PORT",
        "PORTS",
        "PREFETCH",
        "PROCESSOR_USERS",
        "QUEUES",
        "RETENTION",
        "STACKS",
        "THREADS",
        "TRACKER_USERS",
        "URL",
        "WEBHOOK_NETWORKS",
        "WEBHOOK_PORTS",
    }
)
KNOWN = frozenset(PREFIX + name for name in {*SECRETS, *(name + FILE_SUFFIX for name in SECRETS), *OTHERS})

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")
"""Kubernetes describes a Service named `milepost-gateway` by variables such as `MILEPOST_GATEWAY_PORT`."""


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that begins like a setting and is none; the value is not in it."""
    if Exemption.UNKNOWN_SETTINGS in split_words(environment.get(f"{PREFIX}ALLOW", "")):
        return []
    ours = sorted(name for name in environment if name.upper().startswith(PREFIX))
    return [_sentence(name) for name in ours if name not in KNOWN and not _SERVICE_LINK.search(name)]


def _sentence(name: str) -> str:
    near = get_close_matches(name.upper(), KNOWN, n=1, cutoff=0.7)
    advice = f"did you mean {near[0]}?" if near else "remove it"
    return f"{name} is not a setting: {advice} (Or add {Exemption.UNKNOWN_SETTINGS} to MILEPOST_ALLOW to ignore it.)"
