// Requests to the gateway, with the user's key; a problem document becomes an error with its title and detail.

const base = new URL("./", location.href);
let apiKey = null; // in memory only: storage and cookies outlive the page, and a cookie goes to other ports of the host too

export class Problem extends Error {
  constructor(status, body) {
    super([body.title, body.detail].filter(Boolean).join(": ") || `The gateway answered ${status}`);
    this.status = status;
    this.errors = body.errors ?? [];
  }
}

/** The statuses of a refused key: no repeat helps until it is another one. */
export const REFUSED = [401, 403];

export const key = {
  isSet: () => apiKey !== null,
  set: (text) => (apiKey = text),
};

const headers = () => (key.isSet() ? { Authorization: `Bearer ${apiKey}` } : {});

export const address = (path) => new URL(path.replace(/^\//, ""), base);

/** Return the JSON body of an answer; throw a Problem for an error status, or with status 0 if there is no answer. */
export async function fetchJson(path, { method = "GET", json, signal } = {}) {
  let response;
  try {
    response = await fetch(address(path), {
      method,
      signal,
      headers: { ...headers(), ...(json === undefined ? {} : { "Content-Type": "application/json" }) },
      body: json === undefined ? undefined : JSON.stringify(json),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "The gateway can't be reached" });
  }
  const text = await response.text();
  const body = text && /json/.test(response.headers.get("Content-Type") ?? "") ? JSON.parse(text) : {};
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (one) => one.toString(16).padStart(2, "0")).join("");

/** Submit a job with files. `onSent` gets the share of the upload that is sent, 0 to 1. Repeats with the same key make one job. */
export function submit(submission, files, idempotencyKey, onSent, request = new XMLHttpRequest()) {
  request.open("POST", address("v1/jobs"));
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.setRequestHeader("Idempotency-Key", `"${idempotencyKey}"`);
  let body = JSON.stringify(submission);
  if (files.length) {
    body = new FormData();
    body.append("job", JSON.stringify(submission));
    for (const file of files) body.append("file", file, file.webkitRelativePath || file.name);
  } else {
    request.setRequestHeader("Content-Type", "application/json");
  }
  request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
  return new Promise((resolve, reject) => {
    request.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // the answer is not from a gateway: only its status is of use
      }
      request.status < 300 ? resolve(answer) : reject(new Problem(request.status, answer));
    };
    request.onabort = () => reject(new Problem(0, { title: "The request was aborted" }));
    request.onerror = () => reject(new Problem(0, { title: "The gateway can't be reached" }));
    request.send(body);
  });
}

/** Save a file of a job. A plain link would lack the Authorization header. */
export async function save(path, name) {
  const response = await fetch(address(path), { headers: headers() });
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name.split("/").pop();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const STATUS = {
  submitted: "queued",
  scheduled: "scheduled",
  started: "running",
  progressed: "running",
  retrying: "retrying",
  interrupted: "queued",
  quarantined: "queued",
  succeeded: "succeeded",
  failed: "failed",
  canceled: "canceled",
};
export const ENDED = new Set(["succeeded", "failed", "canceled"]);
const EVENT_FIELDS = ["status", "run", "attempt", "attempts", "progress", "items", "result", "error", "started_at", "finished_at", "run_at", "worker"];
const REOPEN_INTERVAL_MS = 1500;
const MAX_JOBS = 100; // per stream, a limit of the gateway

/** One event stream of some jobs. It reconnects by itself; `follow` changes the jobs. */
export class Stream {
  #ids = [];
  #source = null;
  #timer = null;
  #opened = 0;

  /** @param onChange called with (id, changed fields of the document); @param onState called with live or connecting */
  constructor(onChange, onState) {
    this.onChange = onChange;
    this.onState = onState;
  }

  follow(ids) {
    const sorted = ids.slice(0, MAX_JOBS).sort();
    if (!sorted.length) this.onState("live"); // nothing to follow
    if (sorted.join() === this.#ids.join()) return;
    this.#ids = sorted;
    this.#reopen(REOPEN_INTERVAL_MS - (Date.now() - this.#opened));
  }

  close() {
    this.#ids = [];
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #reopen(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open().catch((error) => this.#onClosed(error)), Math.max(0, delay));
  }

  async #open() {
    this.#source?.close();
    this.#source = null;
    this.#opened = Date.now();
    if (!this.#ids.length) return this.onState("live");
    this.onState("connecting");
    const query = new URLSearchParams(this.#ids.map((id) => ["job", id]));
    if (key.isSet()) {
      const { token } = await fetchJson(`v1/events/stream-token?${query}`, { method: "POST" });
      query.set("token", token); // an EventSource can't send headers; the token opens only this stream, for 15 minutes
    }
    const source = (this.#source = new EventSource(address(`v1/events?${query}`)));
    source.onopen = () => this.onState("live");
    source.onerror = () => {
      if (source !== this.#source) return;
      source.readyState === EventSource.CLOSED ? this.#onClosed() : this.onState("connecting");
    };
    const onEvent = (event) => {
      const { type, time, subject, data } = JSON.parse(event.data);
      const status = STATUS[type.split(".")[3]];
      if (!status) return;
      const job = { ...data, status };
      this.onChange(subject, { ...Object.fromEntries(EVENT_FIELDS.map((name) => [name, job[name] ?? null])), updated_at: time });
    };
    for (const name of ["snapshot", ...Object.keys(STATUS)]) source.addEventListener(name, onEvent);
  }

  /** The gateway closed or refused the stream: try again, unless it refused the key. The view's next poll may change the jobs meanwhile. */
  #onClosed(error) {
    this.#source = null;
    if (!this.#ids.length) return;
    if (REFUSED.includes(error?.status)) return this.onState("off");
    this.onState("connecting");
    this.#reopen(REOPEN_INTERVAL_MS);
  }
}
