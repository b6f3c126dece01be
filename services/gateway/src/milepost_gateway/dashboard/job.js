// One job: its document, updated by an event stream, and the actions on it.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { ENDED, fetchJson, save, Stream } from "./gateway.js";
import { ago, bar, bytes, json, length, moment, pace, status } from "./format.js";
import { View } from "./view.js";

const GONE = [404, 410];
const ATTEMPT = { succeeded: "succeeded", interrupted: "stopped", canceled: "stopped", lost: "stopped" };

export class Job extends View {
  job = null;

  constructor(app, id) {
    super(app);
    this.id = id;
    this.title = `Job …${id.slice(-8)}`;
    this.stream = new Stream((_, change) => this.#onChange(change), app.link);
  }

  /** Load the document: at first, after the job has ended, and regularly, in case the stream is lost. */
  async load(get) {
    const job = await get(`v1/jobs/${this.id}`).catch((error) => {
      if (GONE.includes(error.status)) this.job = null;
      throw error;
    });
    if (!(this.job?.run > job.run)) this.job = job; // else it is of the run before: no tracker has seen the retry yet
    const ended = ENDED.has(this.job.status);
    this.stream.follow(ended ? [] : [this.id]);
    this.interval = ended ? 30_000 : 5_000;
  }

  #onChange(change) {
    if (!this.job || this.job.updated_at > change.updated_at) return;
    if (ENDED.has(change.status)) return void this.enter();
    this.job = { ...this.job, ...change };
    this.app.update();
  }

  async #act(method, path, notice) {
    try {
      const answer = await fetchJson(`v1/jobs/${this.id}${path}`, { method });
      this.app.notice(notice);
      if (method === "DELETE") return void (location.hash = "#/");
      this.job = answer;
    } catch (error) {
      this.app.failed(error);
    }
    await this.enter();
  }

  render() {
    const job = this.job;
    if (!job) return html`<h1>${this.title}</h1>${this.error ? html`${this.problem()}<p><a href="#/">All jobs</a></p>` : this.empty()}`;
    const ended = ENDED.has(job.status);
    return html`<h1>${job.type ?? "Job"} ${status(job.status)}</h1>
      <p class="id">${job.id}</p>${this.problem()}
      <section aria-label="Progress">
        ${bar(job, { wide: true })}
        ${pace(job) ? html`<p class="pace">${pace(job)}</p>` : nothing}
        ${job.waiting ? html`<p class="warn">${job.waiting.detail}</p>` : nothing}
        ${job.cancel_requested && !ended ? html`<p>Cancel was requested ${ago(job.cancel_requested.at)} ago.</p>` : nothing}
        <p class="actions">
          ${ended
            ? html`<button type="button" @click=${() => this.#act("POST", "/retry", "The job was submitted again.")}>Retry</button>
                <button type="button" class="danger" @click=${() => confirm("Delete this job and its files?") && this.#act("DELETE", "", "The job was deleted.")}>Delete</button>`
            : html`<button type="button" class="danger" ?disabled=${!!job.cancel_requested} @click=${() => this.#act("POST", "/cancel", "Cancel was requested.")}>Cancel</button>`}
        </p>
      </section>
      ${job.error ? this.#error(job.error) : nothing}
      ${ended && job.status === "succeeded" ? this.#result(job) : nothing}
      ${job.items?.count ? html`<section><h2>Items <small>the latest ${job.items.last.length} of ${job.items.count}</small></h2><ol class="items" start=${job.items.count - job.items.last.length + 1}>${job.items.last.map((one) => html`<li><code>${JSON.stringify(one)}</code></li>`)}</ol></section>` : nothing}
      ${this.#attempts(job)}
      <section><h2>Params</h2>${json(job.params)}
        ${job.files.length ? html`<h3>Submitted files</h3><ul>${job.files.map((one) => html`<li>${one.name} <small>${bytes(one.size)}</small></li>`)}</ul>` : nothing}
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
      ${job.result === null && !files.length ? html`<p>The handler returned nothing.</p>` : nothing}</section>`;
  }

  /** Each attempt as a bar on a common time axis. */
  #attempts(job) {
    if (!job.attempts.length) return nothing;
    const now = Date.now();
    const end = (one) => (one.ended_at ? +new Date(one.ended_at) : one.why ? +new Date(one.started_at) : now);
    const start = +new Date(job.attempts[0].started_at);
    const duration = Math.max(1, Math.max(...job.attempts.map(end)) - start);
    return html`<section><h2>Attempts</h2><ol class="attempts">
      ${job.attempts.map((one) => {
        const offset = (100 * (+new Date(one.started_at) - start)) / duration;
        const share = Math.max(1, (100 * (end(one) - new Date(one.started_at))) / duration);
        return html`<li><span><strong>${one.number}</strong> ${one.why ?? "running"} <small>${length((end(one) - new Date(one.started_at)) / 1000)} on ${one.worker ?? "?"}, from ${moment(one.started_at)}</small></span>
          <svg class="span" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class=${one.why ? ATTEMPT[one.why] ?? "failed" : "running"} x=${Math.min(offset, 99)} width=${Math.min(share, 100)} height="4"></rect></svg></li>`;
      })}</ol></section>`;
  }

  #about(job) {
    const rows = {
      queue: job.queue,
      tags: job.tags.map((tag) => html`<a href="#/?tag=${encodeURIComponent(tag)}">${tag}</a> `),
      batch: job.batch,
      run: job.run > 1 ? job.run : null,
      created: moment(job.created_at),
      "runs at": ["scheduled", "retrying"].includes(job.status) ? moment(job.run_at) : null,
      started: moment(job.started_at),
      finished: moment(job.finished_at),
      "expires at": moment(job.expires_at),
      canceled: job.cancel_requested?.how,
      worker: job.worker,
    };
    return html`<dl>${Object.entries(rows).map(([name, value]) => (value && value.length !== 0 ? html`<div><dt>${name}</dt><dd>${value}</dd></div>` : nothing))}</dl>`;
  }
}
