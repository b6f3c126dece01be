// The dashboard's entry point: routing, login, theme, and the state that all views share.

import { html, render } from "./vendor/lit-html/lit-html.js";
import { key } from "./gateway.js";
import { Jobs } from "./jobs.js";
import { Job } from "./job.js";
import { Submit } from "./submit.js";
import { DeadLetters, Workers } from "./workers.js";

const main = document.getElementById("main");
const NAV = [["#/", "Jobs"], ["#/submit", "Submit"], ["#/workers", "Workers"], ["#/dead", "Dead letters"]];
const LINK = { live: "live", connecting: "connecting …", off: "not connected" };
const UNAUTHENTICATED = 401;

let view = null;
let drawScheduled = false;
main.replaceChildren();

const app = {
  /** Redraw with the next frame; several calls before it cost one redraw. */
  update() {
    if (drawScheduled) return;
    drawScheduled = true;
    requestAnimationFrame(() => {
      drawScheduled = false;
      draw();
    });
  },
  /** Show the state of the connection: live, connecting or off. */
  link(state) {
    const element = document.getElementById("link");
    if (element.className !== state) [element.className, element.textContent] = [state, LINK[state]];
  },
  /** Show the error of a request: the login form for a 401, else a notice, once until a request succeeds. */
  failed: (error) => {
    if (error.status === UNAUTHENTICATED) app.locked = error.message;
    else if (app.lastError !== error.message) app.notice((app.lastError = error.message), "wrong");
    if (error.status === 0) app.link("off");
    app.update();
  },
  /** Note that a request succeeded. */
  succeeded() {
    app.locked = null;
    app.lastError = null;
  },
  notice(text, kind = "") {
    const notice = Object.assign(document.createElement("p"), { textContent: text, className: kind });
    document.getElementById("notices").append(notice);
    setTimeout(() => notice.remove(), 6_000);
  },
  /** Why the login form is shown; nothing while it is not. */
  locked: null,
  /** The last error shown as a notice. */
  lastError: null,
};

function draw() {
  render(app.locked ? login() : view.render(), main);
}

function login() {
  const signIn = (event) => {
    event.preventDefault();
    const entered = event.target.elements.key.value.trim();
    if (!/^[!-~]+$/.test(entered)) return void app.notice("This is not a valid key.", "wrong");
    key.set(entered);
    app.locked = null;
    route();
  };
  return html`<h1>Sign in</h1><p>${app.locked}</p>
    <form @submit=${signIn}><div class="field"><label for="key">API key or token</label><input id="key" type="password" autocomplete="current-password" required>
      <small>${key.isSet() ? "The gateway refused the key. " : ""}The key is kept in the memory of this page only: a reload asks for it again.</small></div><p class="actions"><button type="submit" class="main">Sign in</button></p></form>`;
}

/** Remove the key, and show the login form if the gateway needs one. */
function signOut() {
  key.set(null);
  route();
}

function route() {
  const [path, text] = location.hash.replace(/^#\/?/, "").split("?");
  const query = new URLSearchParams(text);
  const [first, second] = path.split("/");
  view?.leave();
  app.succeeded();
  if (first === "jobs" && second) view = new Job(app, second);
  else if (first === "submit") view = new Submit(app, query);
  else if (first === "workers") view = new Workers(app);
  else if (first === "dead") view = new DeadLetters(app);
  else view = new Jobs(app, query);
  document.title = `${view.title} · Milepost`;
  const current = ["submit", "workers", "dead"].includes(first) ? `#/${first}` : "#/";
  render(NAV.map(([href, name]) => html`<a href=${href} aria-current=${href === current ? "page" : "false"}>${name}</a>`).concat(key.isSet() ? html`<button type="button" class="plain" @click=${signOut}>Sign out</button>` : []), document.getElementById("nav"));
  const shown = view;
  view.enter().then(() => shown === view && app.update());
  draw();
}

const THEMES = { auto: "light dark", light: "light", dark: "dark" };
const theme = document.getElementById("theme");
function applyTheme(name) {
  document.documentElement.style.colorScheme = THEMES[name];
  theme.textContent = `Theme: ${name}`;
  localStorage.setItem("milepost-theme", name);
}
theme.onclick = () => {
  const names = Object.keys(THEMES);
  applyTheme(names[(names.indexOf(localStorage.getItem("milepost-theme") ?? "auto") + 1) % names.length]);
};
applyTheme(Object.hasOwn(THEMES, localStorage.getItem("milepost-theme") ?? "") ? localStorage.getItem("milepost-theme") : "auto");

document.querySelector(".skip").onclick = (event) => {
  event.preventDefault();
  main.focus();
};
addEventListener("hashchange", () => {
  route();
  main.focus();
});
setInterval(() => document.hidden || app.update(), 1_000); // redraws the ages
route();
