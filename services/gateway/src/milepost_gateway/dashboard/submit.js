// Handing a job over: a form made of the type's JSON Schema.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { ask, newKey, submit } from "./gateway.js";

/** What one param is: the first kind that is not null, with references followed. */
function resolve(schema, root) {
  let found = schema;
  while (found.$ref) {
    const { $ref, ...own } = found;
    found = { ...root.$defs?.[$ref.split("/").pop()], ...own };
  }
  const kinds = (found.anyOf ?? []).filter((one) => one.type !== "null");
  return kinds.length === 1 ? { ...found, ...resolve(kinds[0], root) } : found;
}

export class Submit {
  title = "Submit";
  types = [];
  chosen = null;
  places = {};
  message = "";
  sent = null;

  constructor(app, query) {
    this.app = app;
    this.wanted = query.get("type");
  }

  async enter() {
    try {
      this.types = (await ask("v1/job-types")).items;
      this.chosen = this.types.find((one) => one.type === this.wanted) ?? this.types[0] ?? null;
      this.app.well();
      this.app.link("live");
    } catch (error) {
      this.app.failed(error);
    }
    this.app.update();
  }

  leave() {
    this.left = true;
    this.request?.abort();
  }

  /** The same form is the same job, however often it is sent; an answer may have been lost. */
  #keyOf(submission, files) {
    const sent = JSON.stringify([submission, files.map((one) => [one.name, one.size, one.lastModified])]);
    if (this.last !== sent) [this.last, this.key] = [sent, newKey()];
    return this.key;
  }

  #fields() {
    const { params_schema: schema } = this.chosen;
    return Object.entries(schema.properties ?? {}).map(([name, one]) => [name, resolve(one, schema), (schema.required ?? []).includes(name)]);
  }

  #field([name, schema, required]) {
    const id = `param-${name}`;
    const wrong = this.places[name];
    const about = { id, name, required: required && schema.type !== "boolean" };
    const described = wrong ? `${id}-wrong` : schema.description ? `${id}-about` : nothing;
    return html`<div class="field">
      <label for=${id}>${name}${required ? html` <span class="must">required</span>` : nothing}</label>
      ${this.#input(about, schema, described, wrong)}
      ${schema.description ? html`<small id="${id}-about">${schema.description}</small>` : nothing}
      ${wrong ? html`<p class="wrong" id="${id}-wrong">${wrong}</p>` : nothing}
    </div>`;
  }

  #input({ id, name, required }, schema, described, wrong) {
    const invalid = wrong ? "true" : nothing;
    const usual = schema.default === undefined || schema.default === null ? nothing : String(typeof schema.default === "object" ? JSON.stringify(schema.default) : schema.default);
    if (schema.enum) {
      return html`<select id=${id} name=${name} aria-describedby=${described} aria-invalid=${invalid}>${required ? nothing : html`<option value="">usual</option>`}${schema.enum.map((one) => html`<option value=${JSON.stringify(one)}>${one}</option>`)}</select>`;
    }
    if (schema.type === "boolean") {
      return html`<input type="checkbox" id=${id} name=${name} ?checked=${schema.default === true} aria-describedby=${described}>`;
    }
    if (["integer", "number"].includes(schema.type)) {
      return html`<input type="number" id=${id} name=${name} ?required=${required} min=${schema.minimum ?? nothing} max=${schema.maximum ?? nothing} step=${schema.type === "integer" ? 1 : "any"} placeholder=${usual} aria-describedby=${described} aria-invalid=${invalid}>`;
    }
    if (schema.type === "string" && (schema.maxLength ?? 0) <= 200) {
      return html`<input id=${id} name=${name} ?required=${required} minlength=${schema.minLength ?? nothing} maxlength=${schema.maxLength ?? nothing} placeholder=${usual} aria-describedby=${described} aria-invalid=${invalid}>`;
    }
    return html`<textarea id=${id} name=${name} rows="3" ?required=${required} placeholder=${schema.type === "string" ? usual : usual === nothing ? "JSON" : usual} aria-describedby=${described} aria-invalid=${invalid}></textarea>`;
  }

  /** Read the form; a param that is left empty is not given. */
  #params(form) {
    const params = {};
    for (const [name, schema] of this.#fields()) {
      const input = form.elements[`param-${name}`];
      if (schema.type === "boolean") params[name] = input.checked;
      else if (input.value === "") continue;
      else if (schema.type === "string" && !schema.enum) params[name] = input.value;
      else {
        try {
          params[name] = JSON.parse(input.value);
        } catch {
          this.places[name] = "This is not JSON.";
        }
      }
    }
    return params;
  }

  async #send(event) {
    event.preventDefault();
    const form = event.target;
    this.places = {};
    this.message = "";
    const submission = { type: this.chosen.type, params: this.#params(form) };
    const tags = form.elements.tags.value.split(/[\s,]+/).filter(Boolean);
    if (tags.length) submission.tags = tags;
    if (form.elements.delay.value) submission.delay = Number(form.elements.delay.value);
    if (Object.keys(this.places).length) return this.app.update();
    const files = [...form.elements.files.files];
    this.sent = files.length ? 0 : null;
    this.busy = true;
    this.app.update();
    try {
      this.request = new XMLHttpRequest();
      const told = (share) => {
        this.sent = share;
        this.app.update();
      };
      const job = await submit(submission, files, this.#keyOf(submission, files), told, this.request);
      if (this.left) return;
      this.app.notice("The job is handed over.");
      location.hash = `#/jobs/${job.id}`;
    } catch (error) {
      if (this.left) return;
      this.#refused(error);
    }
    this.sent = null;
    this.busy = false;
    this.app.update();
  }

  #refused(error) {
    const fields = new Set(this.#fields().map(([name]) => name));
    const others = [];
    for (const { pointer, detail } of error.places) {
      const name = /^\/params\/([^/]+)/.exec(pointer)?.[1];
      if (fields.has(name)) this.places[name] = detail;
      else others.push(`${pointer || "/"}: ${detail}`);
    }
    this.message = [error.message, ...others].join("\n");
  }

  render() {
    if (!this.chosen) return html`<h1>Submit</h1><p class="empty">No job type has been announced yet: start a processor.</p>`;
    return html`<h1>Submit</h1>
      <form class="submit" @submit=${(event) => this.#send(event)}>
        <div class="field"><label for="type">Type</label>
          <select id="type" @change=${(event) => (location.hash = `#/submit?type=${event.target.value}`)}>${this.types.map((one) => html`<option .selected=${one === this.chosen}>${one.type}</option>`)}</select>
          <small>${this.chosen.title}${this.chosen.live_processors ? nothing : html` <span class="warn">No live processor serves it: it will wait.</span>`}</small></div>
        ${repeat([this.chosen], (one) => one.type, () => html`<fieldset><legend>Params</legend>${this.#fields().map((one) => this.#field(one))}${this.#fields().length ? nothing : html`<p>It takes none.</p>`}</fieldset>`)}
        <div class="field"><label for="files">Files</label><input type="file" id="files" multiple></div>
        <div class="field"><label for="tags">Tags</label><input id="tags" placeholder="nightly, invoices"></div>
        <div class="field"><label for="delay">Delay in seconds</label><input id="delay" type="number" min="0" step="1"></div>
        ${this.message ? html`<p class="wrong" role="alert">${this.message}</p>` : nothing}
        ${this.sent === null ? nothing : html`<p>Sending the files <progress max="1" value=${this.sent} aria-label="how much of the files is sent"></progress> ${Math.round(100 * this.sent)} %</p>`}
        <p class="actions"><button type="submit" class="main" ?disabled=${this.busy}>Submit</button></p>
      </form>`;
  }
}
