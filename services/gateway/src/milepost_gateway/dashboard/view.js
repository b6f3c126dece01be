// What all views share: they load what they show, again and again, and say if it can't be read.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { fetchJson, REFUSED } from "./gateway.js";

/** A view. `load` gets what it shows, `render` shows it, `interval` is the pause between two loads in ms; null for none. */
export class View {
  interval = 3_000;
  loaded = false;
  error = null;
  stream = null;
  #timer = null;
  #requests = new AbortController();

  constructor(app) {
    this.app = app;
  }

  async enter() {
    clearTimeout(this.#timer);
    const { signal } = this.#requests;
    try {
      await this.load((path) => fetchJson(path, { signal }));
      this.loaded = true;
      this.error = null;
      this.app.succeeded();
      if (!this.stream) this.app.link("live");
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
      this.app.unread(error);
      if (REFUSED.includes(error.status)) {
        this.leave(); // another key makes a new view
        this.app.link("none");
      }
    }
    if (!signal.aborted && this.interval !== null) this.#timer = setTimeout(() => this.enter(), this.interval);
    this.app.update();
  }

  /** Stop all requests. */
  leave() {
    clearTimeout(this.#timer);
    this.#requests.abort();
    this.stream?.close();
  }

  /** Why the view can't be read, or is not up to date; nothing while it is. */
  problem() {
    return this.error ? html`<p class="wrong" role="alert">${this.error.message}</p>` : nothing;
  }

  /** Say that there is nothing to list: only if that is known. */
  empty(text) {
    if (this.error) return nothing;
    return html`<p class="empty">${this.loaded ? text : "Loading …"}</p>`;
  }
}
