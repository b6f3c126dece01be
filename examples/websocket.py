"""Read progress over a WebSocket, and cancel the job. Plain `websockets`."""

import json
import os

import httpx
from websockets.sync.client import connect

URL = os.environ.get("MILEPOST_URL", "http://127.0.0.1:8800")


def main() -> None:
    submitted = httpx.post(f"{URL}/v1/jobs", json={"type": "count", "params": {"steps": 1000}}).raise_for_status()
    address = URL.replace("http", "ws", 1) + f"/v1/jobs/{submitted.json()['id']}/ws"
    canceled = False
    with connect(address, subprotocols=["cloudevents.json"]) as socket:
        for frame in socket:  # ends with the job
            event = json.loads(frame)
            progress = event["data"]["progress"] or {"done": 0}
            print(event["type"], progress["done"])
            if progress["done"] > 5 and not canceled:
                socket.send('{"type":"cancel"}')
                canceled = True


if __name__ == "__main__":
    main()
