// The list of jobs: filters, counts, and a page that updates by polling and one event stream.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { ENDED, fetchJson, Stream } from "./gateway.js";
import { ago, bar, moment, pace, status } from "./format.js";
import { View } from "./view.js";

const PAGE_SIZE = 50;
const STATES = ["scheduled", "queued", "running", "retrying", "succeeded", "failed", "canceled"];
const FILTERS = ["status", "type", "queue", "tag"];

/** Why a job failed or is retried, when it starts, or how far it is. */
function details(job) {
  const start = ["scheduled", "retrying"].includes(job.status) && job.run_at ? `starts ${moment(job.run_at)}` : "";
  const text = job.error && job.status !== "succeeded" ? job.error.message : pace(job);
  return [text, start].filter(Boolean).join(" · ");
}

export class Jobs extends View {
  title = "Jobs";
  jobs = new Map();
  order = [];
  counts = {};
  types = null;
  next = null;
  interval = 2_000;

  constructor(app, query) {
    super(app);
    this.filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
    this.stream = new Stream((id, change) => this.#onChange(id, change), app.link);
  }

  async load(get) {
    if (document.hidden && this.order.length) return;
    const [page, counts] = await Promise.all([get(`v1/jobs?${this.#query()}`), get("v1/jobs/counts")]);
    this.counts = counts;
    this.#merge(page);
    this.types ??= await get("v1/job-types").then(({ items }) => items, () => null); // the filters can do without
  }

  #query(cursor) {
    const query = new URLSearchParams(Object.entries(this.filters).filter(([, value]) => value));
    query.set("limit", PAGE_SIZE);
    if (cursor) query.set("cursor", cursor);
    return query;
  }

  /** Replace the newest page; keep the older pages that were loaded. */
  #merge(page) {
    const ids = page.items.map((job) => job.id);
    const fresh = new Set(ids);
    const last = this.order.findLastIndex((id) => fresh.has(id));
    const older = this.moreLoaded ? this.order.slice(last + 1).filter((id) => !fresh.has(id)) : [];
    this.order = [...ids, ...older];
    if (!older.length) this.next = page.next && new URL(page.next).searchParams.get("cursor");
    page.items.forEach((job) => this.#store(job));
    this.jobs = new Map(this.order.map((id) => [id, this.jobs.get(id)]));
    this.#follow();
  }

  #store(job) {
    const known = this.jobs.get(job.id);
    if (!known || known.updated_at <= job.updated_at) this.jobs.set(job.id, job);
  }

  #follow() {
    this.stream.follow(this.order.filter((id) => !ENDED.has(this.jobs.get(id).status)));
    this.app.update();
  }

  #onChange(id, change) {
    const known = this.jobs.get(id);
    if (!known || known.updated_at > change.updated_at) return;
    this.jobs.set(id, { ...known, ...change });
    this.app.update();
  }

  async loadMore() {
    this.moreLoaded = true;
    const page = await fetchJson(`v1/jobs?${this.#query(this.next)}`);
    page.items.forEach((job) => this.#store(job));
    this.order = [...new Set([...this.order, ...page.items.map((job) => job.id)])];
    this.next = page.next && new URL(page.next).searchParams.get("cursor");
    this.#follow();
  }

  #filter(name, value) {
    const query = new URLSearchParams(Object.entries({ ...this.filters, [name]: value }).filter(([, one]) => one));
    location.hash = `#/${query.size ? `?${query}` : ""}`;
  }

  #choice(name, values) {
    const options = ["", ...new Set([this.filters[name], ...values].filter(Boolean))];
    return html`<div><label for="filter-${name}">${name}</label>
      <select id="filter-${name}" @change=${(event) => this.#filter(name, event.target.value)}>
        ${options.map((one) => html`<option value=${one} .selected=${one === this.filters[name]}>${one || "any"}</option>`)}
      </select></div>`;
  }

  render() {
    const filtered = FILTERS.some((name) => this.filters[name]);
    return html`<h1>Jobs</h1>${this.problem()}
      <ul class="counts" aria-label="How many jobs are in each state">
        ${STATES.filter((name) => this.counts[name]).map((name) => html`<li><a href="#/?status=${name}">${status(name)} ${this.counts[name]}</a></li>`)}
      </ul>
      <form class="filters" aria-label="Filters" @submit=${(event) => event.preventDefault()}>
        ${this.#choice("status", STATES)}
        ${this.#choice("type", (this.types ?? []).map((one) => one.type))}
        ${this.#choice("queue", (this.types ?? []).map((one) => one.queue))}
        <div><label for="filter-tag">tag</label> <input id="filter-tag" .value=${this.filters.tag} maxlength="64" @change=${(event) => this.#filter("tag", event.target.value.trim())}></div>
        ${filtered ? html`<a class="button" href="#/">Clear</a>` : nothing}
      </form>
      ${this.order.length ? this.#table() : this.empty(filtered ? "No job matches the filters." : html`No jobs yet. <a href="#/submit">Submit one</a>, or <code>milepost submit count steps=50</code>.`)}
      ${this.next ? html`<button type="button" @click=${() => this.loadMore().catch(this.app.failed)}>Load more</button>` : nothing}`;
  }

  #table() {
    return html`<div class="scroll" tabindex="0" role="region" aria-label="Jobs"><table class="jobs">
      <thead><tr><th scope="col">Job</th><th scope="col">Type</th><th scope="col">Status</th><th scope="col">Progress</th><th scope="col">Details</th><th scope="col">Age</th></tr></thead>
      <tbody>
        ${repeat(this.order, (id) => id, (id) => {
          const job = this.jobs.get(id);
          return html`<tr>
            <td><a href="#/jobs/${id}" class="id" title=${id}>…${id.slice(-8)}</a></td>
            <td>${job.type ?? ""}</td>
            <td>${status(job.status)}${job.attempt > 1 ? html` <small>attempt ${job.attempt}</small>` : nothing}</td>
            <td>${bar(job)}</td>
            <td class="details">${details(job)}</td>
            <td title=${moment(job.created_at)}>${ago(job.created_at)}</td>
          </tr>`;
        })}
      </tbody></table></div>`;
  }
}
