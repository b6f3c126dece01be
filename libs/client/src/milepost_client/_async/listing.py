"""Paginated job lists."""

from collections.abc import AsyncGenerator, Mapping

import httpx

from milepost_client._async.transport import AsyncTransport
from milepost_contracts.status.document import JobDocument

PAGE_SIZE = 200


async def jobs(
    transport: AsyncTransport, wanted: Mapping[str, str], *, limit: int | None = None
) -> AsyncGenerator[JobDocument, None]:
    """Yield jobs, newest first; pages are fetched as needed."""
    left = limit
    query = {**wanted, "limit": str(PAGE_SIZE if left is None else min(left, PAGE_SIZE))}
    while left is None or left > 0:
        page = (await transport.send("GET", "/v1/jobs", params=query)).json()
        for item in page["items"][:left]:
            yield JobDocument.model_validate(item)
        left = None if left is None else left - len(page["items"])
        if page["next"] is None:
            return
        query["cursor"] = httpx.URL(page["next"]).params["cursor"]
