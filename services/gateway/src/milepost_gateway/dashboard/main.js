// The dashboard: which view is shown, and what all of them share.

import { html, render } from "./vendor/lit-html/lit-html.js";
import { key } from "./gateway.js";
import { Jobs } from "./jobs.js";
import { Job } from "./job.js";
import { DeadLetters, Fleet } from "./fleet.js";
import { Submit } from "./submit.js";

const main = document.getElementById("main");
const NAV = [["#/", "Jobs"], ["#/submit", "Submit"], ["#/fleet", "Fleet"], ["#/dead", "Dead letters"]];
const LINK = { live: "live", connecting: "connecting …", off: "not connected" };
const UNAUTHENTICATED = 401;

let view = null;
let asleep = false;
main.replaceChildren();

const app = {
  /** Draw what has changed, once for all changes until the next frame. */
  update() {
    if (asleep) return;
    asleep = true;
    requestAnimationFrame(() => {
      asleep = false;
      draw();
    });
  },
  link(state) {
    const place = document.getElementById("link");
    if (place.className !== state) [place.className, place.textContent] = [state, LINK[state]];
  },
  failed: (error) => {
    if (error.status === UNAUTHENTICATED) app.locked = error.message;
    else if (app.trouble !== error.message) app.notice((app.trouble = error.message), "wrong");
    if (error.status === 0) app.link("off");
    app.update();
  },
  /** What was asked was answered. */
  well() {
    app.locked = null;
    app.trouble = null;
  },
  notice(text, kind = "") {
    const notice = Object.assign(document.createElement("p"), { textContent: text, className: kind });
    document.getElementById("notices").append(notice);
    setTimeout(() => notice.remove(), 6_000);
  },
  locked: null,
  trouble: null,
};

function draw() {
  render(app.locked ? login() : view.render(), main);
}

function login() {
  const enter = (event) => {
    event.preventDefault();
    const entered = event.target.elements.key.value.trim();
    if (!/^[!-~]+$/.test(entered)) return void app.notice("That is no key.", "wrong");
    key.set(entered);
    app.locked = null;
    route();
  };
  return html`<h1>Who asks?</h1><p>${app.locked}</p>
    <form @submit=${enter}><div class="field"><label for="key">API key or token</label><input id="key" type="password" autocomplete="off" required>
      <small>${key.get() ? "It was refused, or may not do this. " : ""}It is kept in this tab alone, and forgotten with it.</small></div><p class="actions"><button type="submit" class="main">Enter</button></p></form>`;
}

/** Ask for another key. */
function forgetKey() {
  key.set(null);
  route();
}

function route() {
  const [path, text] = location.hash.replace(/^#\/?/, "").split("?");
  const query = new URLSearchParams(text);
  const [first, second] = path.split("/");
  view?.leave();
  app.well();
  if (first === "jobs" && second) view = new Job(app, second);
  else if (first === "submit") view = new Submit(app, query);
  else if (first === "fleet") view = new Fleet(app);
  else if (first === "dead") view = new DeadLetters(app);
  else view = new Jobs(app, query);
  document.title = `${view.title} · Milepost`;
  const here = ["submit", "fleet", "dead"].includes(first) ? `#/${first}` : "#/";
  render(NAV.map(([where, name]) => html`<a href=${where} aria-current=${where === here ? "page" : "false"}>${name}</a>`).concat(key.get() ? html`<button type="button" class="plain" @click=${forgetKey}>Forget the key</button>` : []), document.getElementById("nav"));
  const shown = view;
  view.enter().then(() => shown === view && app.update());
  draw();
}

const THEMES = { auto: "light dark", light: "light", dark: "dark" };
const theme = document.getElementById("theme");
function dress(name) {
  document.documentElement.style.colorScheme = THEMES[name];
  theme.textContent = `Theme: ${name}`;
  localStorage.setItem("milepost-theme", name);
}
theme.onclick = () => {
  const names = Object.keys(THEMES);
  dress(names[(names.indexOf(localStorage.getItem("milepost-theme") ?? "auto") + 1) % names.length]);
};
dress(Object.hasOwn(THEMES, localStorage.getItem("milepost-theme") ?? "") ? localStorage.getItem("milepost-theme") : "auto");

document.querySelector(".skip").onclick = (event) => {
  event.preventDefault();
  main.focus();
};
addEventListener("hashchange", () => {
  route();
  main.focus();
});
setInterval(() => document.hidden || app.update(), 1_000); // ages grow
route();
