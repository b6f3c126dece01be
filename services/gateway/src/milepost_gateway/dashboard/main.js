// The dashboard's entry point: routing, login, theme, and the state that all views share.

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { key } from "./gateway.js";
import { Jobs } from "./jobs.js";
import { Job } from "./job.js";
import { Submit } from "./submit.js";
import { View } from "./view.js";
import { DeadLetters, Workers } from "./workers.js";

const main = document.getElementById("main");
const NAV = [["#/", "Jobs"], ["#/submit", "Submit"], ["#/workers", "Workers"], ["#/dead", "Dead letters"]];
const LINK = { live: "live", connecting: "connecting …", off: "not connected", none: "" };
const UNAUTHENTICATED = 401;

let view = null;
let current = "";
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
  /** Show the state of the connection: live, connecting, off, or none if nothing is read. */
  link(state) {
    const element = document.getElementById("link");
    if (element.className !== state) [element.className, element.textContent] = [state, LINK[state]];
  },
  /** Show the error of an action: the login form for a 401, else a notice. */
  failed: (error) => {
    if (error.status !== UNAUTHENTICATED) app.notice(error.message, "wrong");
    app.unread(error);
    app.update();
  },
  /** Note that a view could not be read: the login form is shown for a 401, else the view shows the error. */
  unread(error) {
    if (error.status === UNAUTHENTICATED) app.locked = error.message;
    if (error.status === 0) app.link("off");
  },
  /** Note that a view was read. */
  succeeded() {
    app.locked = null;
  },
  notice(text, kind = "") {
    const notice = Object.assign(document.createElement("p"), { textContent: text, className: kind });
    document.getElementById("notices").append(notice);
    setTimeout(() => notice.remove(), 6_000);
  },
  /** Why the login form is shown; nothing while it is not. */
  locked: null,
};

function draw() {
  render(app.locked ? login() : view.render(), main);
  render(navigation(), document.getElementById("nav"));
}

function navigation() {
  const signedIn = key.isSet() && !app.locked;
  return [
    NAV.map(([href, name]) => html`<a href=${href} aria-current=${href === current ? "page" : "false"}>${name}</a>`),
    signedIn ? html`<button type="button" @click=${signOut}>Sign out</button>` : nothing,
  ];
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
  const refused = key.isSet();
  return html`<h1>Sign in</h1>${refused ? html`<p class="wrong" role="alert" id="refused">${app.locked}</p>` : html`<p>${app.locked}</p>`}
    <form @submit=${signIn}><div class="field"><label for="key">API key or token</label><input id="key" type="password" autocomplete="current-password" required aria-invalid=${refused ? "true" : nothing} aria-describedby=${refused ? "refused" : nothing}>
      <small>The key is kept in the memory of this page only: a reload asks for it again.</small></div><p class="actions"><button type="submit" class="main">Sign in</button></p></form>`;
}

/** Remove the key, and show the login form if the gateway needs one. */
function signOut() {
  key.set(null);
  route();
}

class NoSuchPage extends View {
  title = "No such page";

  async enter() {
    app.link("none");
  }

  render() {
    return html`<h1>${this.title}</h1><p>There is no page <code>${location.hash}</code>. <a href="#/">All jobs</a></p>`;
  }
}

/** The view of a path; of `#/jobs/x?y=z` it is `jobs/x`. */
function viewOf(path, query) {
  const [first, second, ...more] = path.split("/");
  if (first === "jobs" && second && !more.length) return new Job(app, second);
  switch (path) {
    case "": return new Jobs(app, query);
    case "submit": return new Submit(app, query);
    case "workers": return new Workers(app);
    case "dead": return new DeadLetters(app);
    default: return new NoSuchPage(app);
  }
}

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  view?.leave();
  app.succeeded();
  view = viewOf(path, new URLSearchParams(query));
  document.title = `${view.title} · Milepost`;
  current = view instanceof Job ? "#/" : `#/${path}`;
  view.enter();
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
