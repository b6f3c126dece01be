"""`POST /crunch` answers 202 and a token, `GET /result/TOKEN` the result, once there is one: `uvicorn crunch:app`.

The token is the job's id, which can't be guessed; the gateway recognizes an issued id without a look-up. This app keeps
no state: a restart loses nothing, and any number of copies may run.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Response

from milepost_client import AsyncClient, JobNotFound, Status


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient() as client:
        app.state.milepost = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/crunch", status_code=202)
async def crunch(limit: int) -> dict[str, str]:
    handle = await app.state.milepost.submit("crunch", {"limit": limit})
    return {"token": handle.id}


@app.get("/result/{token}")
async def result(token: str, response: Response) -> Any:
    try:
        document = (await app.state.milepost.job(token)).document
    except JobNotFound as error:
        raise HTTPException(404, "no such token") from error
    if document.status is Status.SUCCEEDED:
        return document.result
    if document.status.terminal:
        raise HTTPException(409, document.error.message if document.error else "canceled")
    response.status_code = 202
    return {"status": document.status, "percent": document.progress.percent if document.progress else None}
