"""Your own FastAPI app submits a job during a request: `uvicorn embed:app`.

The order number is the idempotency key: a client that repeats its request creates no second job.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from milepost_client import AsyncClient, Refused, Unavailable


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, AsyncClient]]:
    async with AsyncClient() as client:
        yield {"milepost": client}


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{number}/invoice", status_code=202)
async def make_invoice(number: int, request: Request) -> JSONResponse:
    milepost: AsyncClient = request.state.milepost
    try:
        handle = await milepost.submit(
            "echo", {"text": f"invoice {number}"}, tags=["invoices"], idempotency_key=f"invoice-{number}"
        )
    except Refused as error:  # a bug in this app: the submission is invalid
        raise HTTPException(500, str(error)) from error
    except Unavailable as error:
        raise HTTPException(503, "try again soon", {"Retry-After": f"{error.retry_after:.0f}"}) from error
    return JSONResponse({"job": handle.id}, 202, {"Location": handle.url})
