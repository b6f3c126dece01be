// The gateway, as the dashboard asks it: with the key of whoever sits before it, every problem an error with its words.

const base = new URL("./", location.href);
const KEY = "milepost-key";

export class Problem extends Error {
  constructor(status, body) {
    super([body.title, body.detail].filter(Boolean).join(": ") || `The gateway answered ${status}`);
    this.status = status;
    this.places = body.errors ?? [];
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

export const address = (path) => new URL(path.replace(/^\//, ""), base);

export async function ask(path, { method = "GET", json, signal } = {}) {
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

/** Hand a job over, with files; tell how much of them has been sent, 0 to 1. The same key is the same job. */
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
        // no gateway answered: its status says as much as can be said
      }
      request.status < 300 ? resolve(answer) : reject(new Problem(request.status, answer));
    };
    request.onabort = () => reject(new Problem(0, { title: "It was not sent" }));
    request.onerror = () => reject(new Problem(0, { title: "The gateway can't be reached" }));
    request.send(body);
  });
}

/** Save a file of a job: a link can't say who asks. */
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
const SHOWN = ["status", "run", "attempt", "attempts", "progress", "items", "result", "error", "started_at", "finished_at", "run_at", "worker"];
const REOPEN_MS = 1500;
const MOST = 100;

/** One stream of what happens to some jobs. It comes back by itself, and other jobs can be put in their place. */
export class Stream {
  #ids = [];
  #source = null;
  #timer = null;
  #opened = 0;

  /** @param tell called with (id, what has changed of the document); @param state with live, connecting or off */
  constructor(tell, state) {
    this.tell = tell;
    this.state = state;
  }

  follow(ids) {
    const wanted = ids.slice(0, MOST).sort();
    if (!wanted.length) this.state("live"); // there is nothing to hear
    if (wanted.join() === this.#ids.join()) return;
    this.#ids = wanted;
    this.#reopen(REOPEN_MS - (Date.now() - this.#opened));
  }

  close() {
    this.#ids = [];
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #reopen(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open().catch(() => this.#lost()), Math.max(0, wait));
  }

  async #open() {
    this.#source?.close();
    this.#source = null;
    this.#opened = Date.now();
    if (!this.#ids.length) return this.state("live");
    this.state("connecting");
    const query = new URLSearchParams(this.#ids.map((id) => ["job", id]));
    if (key.get()) {
      const { token } = await ask(`v1/events/stream-token?${query}`, { method: "POST" });
      query.set("token", token); // an EventSource can't send headers; it opens these streams alone, and not for long
    }
    const source = (this.#source = new EventSource(address(`v1/events?${query}`)));
    source.onopen = () => this.state("live");
    source.onerror = () => {
      if (source !== this.#source) return;
      source.readyState === EventSource.CLOSED ? this.#lost() : this.state("connecting");
    };
    const heard = (event) => {
      const { type, time, subject, data } = JSON.parse(event.data);
      const status = STATUS[type.split(".")[3]];
      if (!status) return;
      const job = { ...data, status };
      this.tell(subject, { ...Object.fromEntries(SHOWN.map((name) => [name, job[name] ?? null])), updated_at: time });
    };
    for (const name of ["snapshot", ...Object.keys(STATUS)]) source.addEventListener(name, heard);
  }

  /** All have ended, or the gateway refused: a listing will say what is to be followed. */
  #lost() {
    this.#source = null;
    if (!this.#ids.length) return;
    this.state("connecting");
    this.#reopen(REOPEN_MS);
  }
}
