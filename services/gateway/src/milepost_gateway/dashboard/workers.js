// Queues and processors, and dead letters.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { fetchJson } from "./gateway.js";
import { ago, amount } from "./format.js";
import { View } from "./view.js";

export class Workers extends View {
  title = "Workers";
  queues = [];
  processors = [];

  async load(get) {
    const [queues, processors] = await Promise.all([get("v1/queues"), get("v1/processors")]);
    [this.queues, this.processors] = [queues.items, processors.items];
  }

  render() {
    return html`<h1>Workers</h1>${this.problem()}
      <section><h2>Queues</h2>
        ${this.queues.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Queues"><table><thead><tr><th scope="col">Queue</th><th scope="col">Waiting</th><th scope="col">Processors</th><th scope="col">Threads</th></tr></thead>
          <tbody>${this.queues.map((one) => html`<tr><th scope="row"><a href="#/?queue=${one.name}">${one.name}</a></th><td>${amount(one.ready)}</td><td>${one.live_processors}${one.live_processors ? nothing : html` <span class="warn">no live processor</span>`}</td><td>${one.threads}</td></tr>`)}</tbody></table></div>` : this.empty("No processor has announced a queue yet. Start one.")}
      </section>
      <section><h2>Processors</h2>
        ${this.processors.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Processors"><table><thead><tr><th scope="col">Instance</th><th scope="col">Busy</th><th scope="col">Running</th><th scope="col">Queues</th><th scope="col">Up for</th><th scope="col">Version</th></tr></thead>
          <tbody>${this.processors.map((one) => html`<tr><th scope="row">${one.instance}</th><td><meter min="0" max=${one.threads} value=${one.running.length} aria-label="busy threads of ${one.instance}"></meter> ${one.running.length} of ${one.threads}</td>
            <td>${one.running.map((job) => html`<a href="#/jobs/${job.id}">${job.type}</a> `)}</td><td>${one.queues.join(", ")}</td><td>${ago(one.started_at)}</td><td>${one.version}</td></tr>`)}</tbody></table></div>` : this.empty("No processor is alive. Jobs are accepted and wait.")}
      </section>`;
  }
}

export class DeadLetters extends View {
  title = "Dead letters";
  deadLetters = { items: [], unreadable: [] };

  async load(get) {
    this.deadLetters = await get("v1/dead-letters");
  }

  async #redrive(path, json) {
    try {
      await fetchJson(path, { method: "POST", json });
      this.app.notice("The redrive was accepted.");
      await this.enter();
    } catch (error) {
      this.app.failed(error);
    }
  }

  render() {
    const { items, unreadable } = this.deadLetters;
    const types = [...new Set(items.map((one) => one.type))];
    return html`<h1>Dead letters</h1>
      <p>Jobs that the broker dead-lettered: their workers died again and again, or no processor knew their type. Jobs that failed otherwise are among the <a href="#/?status=failed">failed jobs</a>.</p>
      ${this.problem()}
      ${items.length ? html`<p class="actions">${types.map((type) => html`<button type="button" @click=${() => confirm(`Redrive all dead letters of the type ${type}?`) && this.#redrive("v1/dead-letters:redrive", { type, limit: 1000 })}>Redrive all of ${type}</button>`)}</p>
        <div class="scroll" tabindex="0" role="region" aria-label="Dead letters"><table><thead><tr><th scope="col">Job</th><th scope="col">Type</th><th scope="col">Queue</th><th scope="col">Dead-lettered</th><th scope="col">Reason</th><th scope="col"><span class="hidden">Action</span></th></tr></thead>
        <tbody>${items.map((one) => html`<tr><td><a class="id" href="#/jobs/${one.job_id}">…${one.job_id.slice(-8)}</a></td><td>${one.type}</td><td>${one.queue}</td><td>${one.given_up_at ? `${ago(one.given_up_at)} ago` : ""}</td><td class="details">${one.error?.message ?? ""}</td>
          <td><button type="button" aria-label="Redrive ${one.job_id.slice(-8)}" @click=${() => this.#redrive(`v1/dead-letters/${one.job_id}/redrive`)}>Redrive</button></td></tr>`)}</tbody></table></div>` : this.empty("There are no dead letters.")}
      ${unreadable.length ? html`<h2>Unreadable messages</h2><ul>${unreadable.map((one) => html`<li>${one.queue}: ${one.reason} <small>${sizeAndAge(one)}</small> <code>${one.excerpt}</code></li>`)}</ul>` : nothing}`;
  }
}

const sizeAndAge = (one) => `${one.size} bytes, ${ago(one.at)} ago`;
