// One job: everything that is known of it, as it happens, and what can be done with it.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { ask, ENDED, save, Stream } from "./gateway.js";
import { ago, bar, bytes, json, length, moment, pace, status } from "./format.js";

export class Job {
  job = null;
  #timer = null;
  #asking = new AbortController();

  constructor(app, id) {
    this.app = app;
    this.id = id;
    this.title = `Job …${id.slice(-8)}`;
    this.stream = new Stream((_, change) => this.#heard(change), app.link);
  }

  async enter() {
    await this.#look();
  }

  leave() {
    clearTimeout(this.#timer);
    this.#asking.abort();
    this.stream.close();
  }

  /** Ask for the whole document: at first, when it has ended, and while there is no stream. */
  async #look() {
    clearTimeout(this.#timer);
    try {
      const job = await ask(`v1/jobs/${this.id}`, { signal: this.#asking.signal });
      if (!(this.job?.run > job.run)) this.job = job; // else no tracker has seen yet that it runs again
      this.app.well();
      this.stream.follow(ENDED.has(this.job.status) ? [] : [this.id]);
    } catch (error) {
      if (error.name === "AbortError") return;
      if ([404, 410].includes(error.status)) [this.job, this.missing] = [null, error.message];
      this.app.failed(error);
    }
    if (!this.#asking.signal.aborted) {
      this.#timer = setTimeout(() => this.#look(), this.job && ENDED.has(this.job.status) ? 30_000 : 5_000);
    }
    this.app.update();
  }

  #heard(change) {
    if (!this.job || this.job.updated_at > change.updated_at) return;
    if (ENDED.has(change.status)) return void this.#look();
    this.job = { ...this.job, ...change };
    this.app.update();
  }

  async #act(method, what, said) {
    try {
      const answer = await ask(`v1/jobs/${this.id}${what}`, { method });
      this.app.notice(said);
      if (method === "DELETE") return void (location.hash = "#/");
      this.job = answer;
    } catch (error) {
      this.app.failed(error);
    }
    await this.#look();
  }

  render() {
    const job = this.job;
    if (!job) return html`<h1>${this.title}</h1><p>${this.missing ?? "Loading …"}</p>`;
    const ended = ENDED.has(job.status);
    return html`<h1>${job.type ?? "Job"} ${status(job.status)}</h1>
      <p class="id">${job.id}</p>
      <section aria-label="Progress">
        ${bar(job, { wide: true })}
        <p class="pace">${pace(job)}</p>
        ${job.waiting ? html`<p class="warn">${job.waiting.detail}</p>` : nothing}
        ${job.cancel_requested && !ended ? html`<p>Cancel was asked for ${ago(job.cancel_requested.at)} ago.</p>` : nothing}
        <p class="actions">
          ${ended
            ? html`<button type="button" @click=${() => this.#act("POST", "/retry", "It runs again.")}>Retry</button>
                <button type="button" class="danger" @click=${() => confirm("Forget this job, and its files?") && this.#act("DELETE", "", "The job is forgotten.")}>Delete</button>`
            : html`<button type="button" class="danger" ?disabled=${!!job.cancel_requested} @click=${() => this.#act("POST", "/cancel", "Cancel is asked for.")}>Cancel</button>`}
        </p>
      </section>
      ${job.error ? this.#error(job.error) : nothing}
      ${ended && job.status === "succeeded" ? this.#result(job) : nothing}
      ${job.items?.count ? html`<section><h2>Items <small>${job.items.count}, the latest</small></h2><ol class="items" start=${job.items.count - job.items.last.length + 1}>${job.items.last.map((one) => html`<li><code>${JSON.stringify(one)}</code></li>`)}</ol></section>` : nothing}
      ${this.#attempts(job)}
      <section><h2>Params</h2>${json(job.params)}
        ${job.files.length ? html`<h3>Files that came with it</h3><ul>${job.files.map((one) => html`<li>${one.name} <small>${bytes(one.size)}</small></li>`)}</ul>` : nothing}
      </section>
      <section><h2>About</h2>${this.#about(job)}</section>`;
  }

  #error(error) {
    return html`<section class="error"><h2>Error</h2>
      <p><strong>${error.exception ?? error.kind}</strong>: ${error.message}</p>
      ${error.traceback ? html`<details><summary>Traceback</summary><pre tabindex="0">${error.traceback}</pre></details>` : nothing}</section>`;
  }

  #result(job) {
    const files = [...job.outputs, ...(job.result_file ? [{ ...job.result_file, url: `/v1/jobs/${job.id}/result` }] : [])];
    return html`<section><h2>Result</h2>
      ${job.result === null ? nothing : json(job.result)}
      ${files.length ? html`<ul>${files.map((one) => html`<li><button type="button" class="plain" @click=${() => save(one.url, one.name).catch(this.app.failed)}>${one.name}</button> <small>${bytes(one.size)}, ${one.media_type}</small></li>`)}</ul>` : nothing}
      ${job.result === null && !files.length ? html`<p>It returned nothing.</p>` : nothing}</section>`;
  }

  /** Each attempt as a bar on one line of time. */
  #attempts(job) {
    if (!job.attempts.length) return nothing;
    const now = Date.now();
    const end = (one) => (one.ended_at ? +new Date(one.ended_at) : one.why ? +new Date(one.started_at) : now);
    const first = +new Date(job.attempts[0].started_at);
    const whole = Math.max(1, Math.max(...job.attempts.map(end)) - first);
    return html`<section><h2>Attempts</h2><ol class="attempts">
      ${job.attempts.map((one) => {
        const from = (100 * (+new Date(one.started_at) - first)) / whole;
        const share = Math.max(1, (100 * (end(one) - new Date(one.started_at))) / whole);
        return html`<li><span><strong>${one.number}</strong> ${one.why ?? "running"} <small>${length((end(one) - new Date(one.started_at)) / 1000)} on ${one.worker ?? "?"}, from ${moment(one.started_at)}</small></span>
          <svg class="span" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect x=${Math.min(from, 99)} width=${Math.min(share, 100)} height="4"></rect></svg></li>`;
      })}</ol></section>`;
  }

  #about(job) {
    const rows = {
      queue: job.queue,
      tags: job.tags.map((tag) => html`<a href="#/?tag=${encodeURIComponent(tag)}">${tag}</a> `),
      batch: job.batch,
      run: job.run > 1 ? job.run : null,
      created: moment(job.created_at),
      "waits until": ["scheduled", "retrying"].includes(job.status) ? moment(job.run_at) : null,
      started: moment(job.started_at),
      finished: moment(job.finished_at),
      "forgotten at": moment(job.expires_at),
      canceled: job.cancel_requested?.how,
      worker: job.worker,
    };
    return html`<dl>${Object.entries(rows).map(([name, value]) => (value && value.length !== 0 ? html`<div><dt>${name}</dt><dd>${value}</dd></div>` : nothing))}</dl>`;
  }
}
