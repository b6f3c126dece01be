// Streams a job's events with the npm package eventsource: they arrive in order, and the reconnect after the end gets 204.
import { EventSource } from "eventsource";

const url = process.env.MILEPOST_URL;
const ended = ["succeeded", "failed", "canceled"];
const names = ["snapshot", "submitted", "started", "progressed", "retrying", "gap", ...ended];
const timer = setTimeout(() => fail("the stream did not end within 30 seconds"), 30_000);

function fail(why) {
  console.log(`FAILED: ${why}`);
  process.exit(1);
}

const accepted = await fetch(`${url}/v1/jobs`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ type: "count", params: { steps: 10, delay: 0.05 } }),
});
if (accepted.status !== 202) fail(`not accepted: ${accepted.status}`);
const job = await accepted.json();

const answers = []; // of each connection: the Last-Event-ID that was sent, and the status
const events = new EventSource(`${url}/v1/jobs/${job.id}/events`, {
  fetch: async (to, init) => {
    const answer = await fetch(to, init);
    answers.push({ sent: init.headers["Last-Event-ID"], status: answer.status });
    return answer;
  },
});

const seen = [];
for (const name of names) {
  events.addEventListener(name, ({ type, lastEventId, data }) => {
    const event = JSON.parse(data);
    seen.push({ name: type, id: Number(lastEventId), type: event.type, done: event.data.progress?.done ?? 0 });
    console.log(lastEventId, type, event.type, event.data.progress?.percent ?? "");
  });
}
events.onmessage = ({ data }) => fail(`an event without a name: ${data}`);

// An EventSource reports the end of each connection as an error; CLOSED means that it will not reconnect.
await new Promise((resolve) => {
  events.onerror = ({ code, message }) => {
    console.log(`error: ${code ?? ""} ${message ?? ""} readyState ${events.readyState}`);
    if (events.readyState === EventSource.CLOSED) resolve();
  };
});
clearTimeout(timer);

const last = seen.at(-1);
if (seen[0]?.name !== "snapshot") fail("the first event is no snapshot");
if (seen.some((event, at) => at > 0 && event.id <= seen[at - 1].id)) fail("the ids of the events do not grow");
if (seen.some((event, at) => at > 0 && event.done < seen[at - 1].done)) fail("the progress goes back");
if (last.type !== "dev.milepost.job.succeeded.v1") fail(`the last event is ${last.type}`);
if (answers.map(({ status }) => status).join() !== "200,204") fail(`the connections: ${JSON.stringify(answers)}`);
if (answers[1].sent !== String(last.id)) fail("the reconnect did not say which event it has");
await new Promise((resolve) => setTimeout(resolve, 2_500)); // two and a half times the pause that the gateway asked for
if (answers.length !== 2) fail("it reconnected after 204");
console.log(`${seen.length} events in order, then 204; it did not reconnect`);
