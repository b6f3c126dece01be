// Queues and processors: how much waits, and who is there to run it.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { ask } from "./gateway.js";
import { ago, amount } from "./format.js";

const EVERY_MS = 3_000;

/** A view that asks again and again. */
class Asking {
  #timer = null;
  #asking = new AbortController();

  constructor(app) {
    this.app = app;
  }

  async enter() {
    clearTimeout(this.#timer);
    const { signal } = this.#asking;
    try {
      await this.look((path) => ask(path, { signal }));
      this.app.well();
      this.app.link("live");
    } catch (error) {
      if (error.name === "AbortError") return;
      this.app.failed(error);
    }
    if (!signal.aborted) this.#timer = setTimeout(() => this.enter(), EVERY_MS);
    this.app.update();
  }

  leave() {
    clearTimeout(this.#timer);
    this.#asking.abort();
  }
}

export class Fleet extends Asking {
  title = "Fleet";
  queues = [];
  processors = [];

  async look(get) {
    const [queues, processors] = await Promise.all([get("v1/queues"), get("v1/processors")]);
    [this.queues, this.processors] = [queues.items, processors.items];
  }

  render() {
    return html`<h1>Fleet</h1>
      <section><h2>Queues</h2>
        ${this.queues.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Queues"><table><thead><tr><th scope="col">Queue</th><th scope="col">Waiting</th><th scope="col">Processors</th><th scope="col">Threads</th></tr></thead>
          <tbody>${this.queues.map((one) => html`<tr><th scope="row"><a href="#/?queue=${one.name}">${one.name}</a></th><td>${amount(one.ready)}</td><td>${one.live_processors}${one.live_processors ? nothing : html` <span class="warn">nobody serves it</span>`}</td><td>${one.threads}</td></tr>`)}</tbody></table></div>` : html`<p class="empty">No queue is known yet: start a processor.</p>`}
      </section>
      <section><h2>Processors</h2>
        ${this.processors.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Processors"><table><thead><tr><th scope="col">Instance</th><th scope="col">Busy</th><th scope="col">Runs</th><th scope="col">Queues</th><th scope="col">Up for</th><th scope="col">Version</th></tr></thead>
          <tbody>${this.processors.map((one) => html`<tr><th scope="row">${one.instance}</th><td><meter min="0" max=${one.threads} value=${one.running.length} aria-label="busy threads of ${one.instance}"></meter> ${one.running.length} of ${one.threads}</td>
            <td>${one.running.map((job) => html`<a href="#/jobs/${job.id}">${job.type}</a> `)}</td><td>${one.queues.join(", ")}</td><td>${ago(one.started_at)}</td><td>${one.version}</td></tr>`)}</tbody></table></div>` : html`<p class="empty">No processor is alive: jobs are accepted, and wait.</p>`}
      </section>`;
  }
}

export class DeadLetters extends Asking {
  title = "Dead letters";
  found = { items: [], unreadable: [] };

  async look(get) {
    this.found = await get("v1/dead-letters");
  }

  async #redrive(path, json) {
    try {
      await ask(path, { method: "POST", json });
      this.app.notice("Handed over again.");
      await this.enter();
    } catch (error) {
      this.app.failed(error);
    }
  }

  render() {
    const { items, unreadable } = this.found;
    const types = [...new Set(items.map((one) => one.type))];
    return html`<h1>Dead letters</h1>
      <p>What the broker gave up: jobs whose workers died again and again, or that no processor knew. Jobs that failed by themselves are <a href="#/?status=failed">here</a>.</p>
      ${items.length ? html`<p class="actions">${types.map((type) => html`<button type="button" @click=${() => confirm(`Hand all of ${type} over again?`) && this.#redrive("v1/dead-letters:redrive", { type, limit: 1000 })}>Redrive all of ${type}</button>`)}</p>
        <div class="scroll" tabindex="0" role="region" aria-label="Dead letters"><table><thead><tr><th scope="col">Job</th><th scope="col">Type</th><th scope="col">Queue</th><th scope="col">Given up</th><th scope="col">Why</th><th scope="col"><span class="hidden">Action</span></th></tr></thead>
        <tbody>${items.map((one) => html`<tr><td><a class="id" href="#/jobs/${one.job_id}">…${one.job_id.slice(-8)}</a></td><td>${one.type}</td><td>${one.queue}</td><td>${one.given_up_at ? `${ago(one.given_up_at)} ago` : ""}</td><td class="what">${one.error?.message ?? ""}</td>
          <td><button type="button" aria-label="Redrive ${one.job_id.slice(-8)}" @click=${() => this.#redrive(`v1/dead-letters/${one.job_id}/redrive`)}>Redrive</button></td></tr>`)}</tbody></table></div>` : html`<p class="empty">Nothing was given up.</p>`}
      ${unreadable.length ? html`<h2>Messages that nobody could read</h2><ul>${unreadable.map((one) => html`<li>${one.queue}: ${one.reason} <small>${bytesOf(one)}</small> <code>${one.excerpt}</code></li>`)}</ul>` : nothing}`;
  }
}

const bytesOf = (one) => `${one.size} bytes, ${ago(one.at)} ago`;
