// Receives a webhook and verifies it with the npm package standardwebhooks. Exit 1 with a sentence if it fails.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const url = process.env.MILEPOST_URL;
const timer = setTimeout(() => fail("no webhook within 30 seconds"), 30_000);

function fail(why) {
  console.log(`FAILED: ${why}`);
  process.exit(1);
}

const received = new Promise((resolve) => {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    response.writeHead(204).end(() => server.close());
    resolve({ headers: request.headers, body });
  });
  server.listen(0, "127.0.0.1", async () => {
    const accepted = await fetch(`${url}/v1/jobs`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        type: "count",
        params: { steps: 2 },
        callback_url: `http://127.0.0.1:${server.address().port}/hook`,
      }),
    });
    if (accepted.status !== 202) fail(`not accepted: ${accepted.status} ${await accepted.text()}`);
  });
});

const { headers, body } = await received;
const { items: [secret] } = await (await fetch(`${url}/v1/webhook-secrets`)).json();
let event;
try {
  event = new Webhook(secret).verify(body, headers);
} catch (error) {
  fail(error.message);
}
if (event.id !== headers["webhook-id"]) fail(`the event ${event.id} came as ${headers["webhook-id"]}`);
if (event.data.result.counted !== 2) fail(`the result is ${JSON.stringify(event.data.result)}`);
try {
  new Webhook(secret).verify(body.replace('"counted":2', '"counted":3'), headers);
  fail("a forged body is verified");
} catch {
  console.log(`${event.type} verified as ${event.id}; a forged body was not`);
}
clearTimeout(timer);
