// The form that submits a job, made from the type's JSON Schema.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { repeat } from "./vendor/lit-html/directives/repeat.js";
import { newKey, submit } from "./gateway.js";
import { View } from "./view.js";

/** Resolve the schema of one param: follow references, and unwrap a type that may also be null. */
function resolve(schema, root) {
  let found = schema;
  while (found.$ref) {
    const { $ref, ...own } = found;
    found = { ...root.$defs?.[$ref.split("/").pop()], ...own };
  }
  const kinds = (found.anyOf ?? []).filter((one) => one.type !== "null");
  return kinds.length === 1 ? { ...found, ...resolve(kinds[0], root) } : found;
}

const isMarked = (schema) => schema.writeOnly === true || schema.format === "password";

/** Whether a value of a schema is secret, or may hold a secret. */
function holdsSecret(schema, root, seen = new Set()) {
  if (schema === null || typeof schema !== "object" || seen.has(schema)) return false;
  seen.add(schema);
  const target = typeof schema.$ref === "string" ? root.$defs?.[schema.$ref.split("/").pop()] : undefined;
  return isMarked(schema) || [target ?? false, ...Object.values(schema)].some((one) => holdsSecret(one, root, seen));
}

export class Submit extends View {
  title = "Submit";
  types = [];
  chosen = null;
  errors = {};
  message = "";
  sent = null;

  constructor(app, query) {
    super(app);
    this.typeName = query.get("type");
  }

  /** Load the types, until there are some: a form that is being filled in does not change. */
  async load(get) {
    this.types = (await get("v1/job-types")).items;
    this.chosen = this.types.find((one) => one.type === this.typeName) ?? this.types[0] ?? null;
    if (this.chosen) this.interval = null;
  }

  leave() {
    super.leave();
    this.left = true;
    this.request?.abort();
  }

  /** Return the Idempotency-Key of a form: an unchanged form that is sent again, say after a lost answer, makes no second job. */
  #keyOf(submission, files) {
    const form = JSON.stringify([submission, files.map((one) => [one.name, one.size, one.lastModified])]);
    if (this.lastForm !== form) [this.lastForm, this.key] = [form, newKey()];
    return this.key;
  }

  #fields() {
    const { params_schema: schema } = this.chosen;
    return Object.entries(schema.properties ?? {}).map(([name, one]) => [name, resolve(one, schema), (schema.required ?? []).includes(name)]);
  }

  #field([name, schema, required]) {
    const id = `param-${name}`;
    const error = this.errors[name];
    const attributes = { id, name, required: required && schema.type !== "boolean" };
    const described = error ? `${id}-error` : schema.description ? `${id}-about` : nothing;
    return html`<div class="field">
      <label for=${id}>${name}${required ? html` <span class="must">required</span>` : nothing}</label>
      ${this.#input(attributes, schema, described, error)}
      ${schema.description ? html`<small id="${id}-about">${schema.description}</small>` : nothing}
      ${error ? html`<p class="wrong" id="${id}-error">${error}</p>` : nothing}
    </div>`;
  }

  #input({ id, name, required }, schema, described, error) {
    const invalid = error ? "true" : nothing;
    if (isMarked(schema)) {
      return html`<input type="password" autocomplete="new-password" id=${id} name=${name} ?required=${required} minlength=${schema.minLength ?? nothing} maxlength=${schema.maxLength ?? nothing} aria-describedby=${described} aria-invalid=${invalid}>`;
    }
    const placeholder = schema.default === undefined || schema.default === null ? nothing : String(typeof schema.default === "object" ? JSON.stringify(schema.default) : schema.default);
    if (schema.enum) {
      return html`<select id=${id} name=${name} aria-describedby=${described} aria-invalid=${invalid}>${required ? nothing : html`<option value="">default</option>`}${schema.enum.map((one) => html`<option value=${JSON.stringify(one)}>${one}</option>`)}</select>`;
    }
    if (schema.type === "boolean") {
      return html`<input type="checkbox" id=${id} name=${name} ?checked=${schema.default === true} aria-describedby=${described}>`;
    }
    if (["integer", "number"].includes(schema.type)) {
      return html`<input type="number" id=${id} name=${name} ?required=${required} min=${schema.minimum ?? nothing} max=${schema.maximum ?? nothing} step=${schema.type === "integer" ? 1 : "any"} placeholder=${placeholder} aria-describedby=${described} aria-invalid=${invalid}>`;
    }
    if (schema.type === "string" && (schema.maxLength ?? 0) <= 200) {
      return html`<input id=${id} name=${name} ?required=${required} minlength=${schema.minLength ?? nothing} maxlength=${schema.maxLength ?? nothing} placeholder=${placeholder} aria-describedby=${described} aria-invalid=${invalid}>`;
    }
    return html`<textarea class=${holdsSecret(schema, this.chosen.params_schema) ? "secret" : nothing} id=${id} name=${name} rows="3" autocomplete="off" ?required=${required} placeholder=${schema.type === "string" ? placeholder : placeholder === nothing ? "JSON" : placeholder} aria-describedby=${described} aria-invalid=${invalid}></textarea>`;
  }

  /** Read the params from the form; empty fields are left out. */
  #params(form) {
    const params = {};
    for (const [name, schema] of this.#fields()) {
      const input = form.elements[`param-${name}`];
      if (schema.type === "boolean" && !isMarked(schema)) params[name] = input.checked;
      else if (input.value === "") continue;
      else if (schema.type === "string" && !schema.enum) params[name] = input.value;
      else {
        try {
          params[name] = JSON.parse(input.value);
        } catch {
          this.errors[name] = "This is not valid JSON.";
        }
      }
    }
    return params;
  }

  async #send(event) {
    event.preventDefault();
    const form = event.target;
    this.errors = {};
    this.message = "";
    const submission = { type: this.chosen.type, params: this.#params(form) };
    const tags = form.elements.tags.value.split(/[\s,]+/).filter(Boolean);
    if (tags.length) submission.tags = tags;
    if (form.elements.delay.value) submission.delay = Number(form.elements.delay.value);
    if (Object.keys(this.errors).length) return this.app.update();
    const files = [...form.elements.files.files];
    this.sent = files.length ? 0 : null;
    this.busy = true;
    this.app.update();
    try {
      this.request = new XMLHttpRequest();
      const onSent = (share) => {
        this.sent = share;
        this.app.update();
      };
      const job = await submit(submission, files, this.#keyOf(submission, files), onSent, this.request);
      if (this.left) return;
      this.app.notice("The job was accepted.");
      location.hash = `#/jobs/${job.id}`;
    } catch (error) {
      if (this.left) return;
      this.#showError(error);
    }
    this.sent = null;
    this.busy = false;
    this.app.update();
  }

  /** Show each error beside its field, the others below the form. */
  #showError(error) {
    const fields = new Set(this.#fields().map(([name]) => name));
    const others = [];
    for (const { pointer, detail } of error.errors) {
      const name = /^\/params\/([^/]+)/.exec(pointer)?.[1];
      if (fields.has(name)) this.errors[name] = detail;
      else others.push(`${pointer || "/"}: ${detail}`);
    }
    this.message = [error.message, ...others].join("\n");
  }

  render() {
    if (!this.chosen) return html`<h1>Submit</h1>${this.problem()}${this.empty("No processor has announced a job type yet. Start one.")}`;
    return html`<h1>Submit</h1>
      <form class="submit" @submit=${(event) => this.#send(event)}>
        <div class="field"><label for="type">Type</label>
          <select id="type" @change=${(event) => (location.hash = `#/submit?type=${event.target.value}`)}>${this.types.map((one) => html`<option .selected=${one === this.chosen}>${one.type}</option>`)}</select>
          <small>${this.chosen.title}${this.chosen.live_processors ? nothing : html` <span class="warn">No live processor serves this type. The job will wait.</span>`}</small></div>
        ${repeat([this.chosen], (one) => one.type, () => html`<fieldset><legend>Params</legend>${this.#fields().map((one) => this.#field(one))}${this.#fields().length ? nothing : html`<p>This type has no params.</p>`}</fieldset>`)}
        <div class="field"><label for="files">Files</label><input type="file" id="files" multiple></div>
        <div class="field"><label for="tags">Tags</label><input id="tags" placeholder="nightly, invoices"></div>
        <div class="field"><label for="delay">Delay in seconds</label><input id="delay" type="number" min="0" step="1"></div>
        ${this.message ? html`<p class="wrong" role="alert">${this.message}</p>` : nothing}
        ${this.sent === null ? nothing : html`<p>Uploading <progress max="1" value=${this.sent} aria-label="upload progress"></progress> ${Math.round(100 * this.sent)} %</p>`}
        <p class="actions"><button type="submit" class="main" ?disabled=${this.busy}>Submit</button></p>
      </form>`;
  }
}
