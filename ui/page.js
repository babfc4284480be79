/** Fills the tabs of the page and brings them to life; what they do is in page/. */

import { Loaded } from "./page/api.js";
import { bytes, make } from "./page/dom.js";
import { startDub } from "./page/dub.js";
import { startModels } from "./page/models.js";
import { startSpeak } from "./page/speak.js";
import { startTalk } from "./page/talk.js";
import { startTranscribe } from "./page/transcribe.js";

const PANELS = {
  talk: startTalk,
  transcribe: startTranscribe,
  speak: startSpeak,
  dub: startDub,
  models: startModels,
};

const AGAIN_MS = 1000;

/** A file beside this one; asked for until it comes, for the server may just be starting again. */
async function text(file) {
  for (;;) {
    try {
      const response = await fetch(new URL(`page/${file}`, import.meta.url));
      if (response.ok) return await response.text();
    } catch {
      // Nobody answered, or not to the end.
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/** Calls `change` now and whenever the frame changes: it makes and drops elements as it likes. */
function always(change) {
  change();
  new MutationObserver(change).observe(document.body, { childList: true, subtree: true });
}

/** Name, and in a few words how the server is. */
function header(loaded) {
  const state = make("p", { class: "vs-server", role: "status" }, "Looking for the server …");
  const mark = make("span", { class: "vs-mark", "aria-hidden": "true" });
  loaded.addEventListener("change", () => {
    const { memory, sessions } = loaded.value;
    state.dataset.state = "ready";
    state.textContent = `Ready · ${bytes(memory.process_bytes)} in memory · ${sessions.running} of ${sessions.limit} sessions`;
  });
  loaded.addEventListener("problem", ({ detail }) => {
    state.dataset.state = "waiting";
    state.textContent = detail.message;
  });
  return make("header", { class: "vs-header" }, make("h1", {}, mark, "Voxsight"), state);
}

/** Arrow keys go from tab to tab. */
function step(event) {
  const buttons = [...event.currentTarget.querySelectorAll('[role="tab"]')];
  const at = buttons.indexOf(document.activeElement);
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!way || at < 0) return;
  event.preventDefault();
  const next = buttons[(at + way + buttons.length) % buttons.length];
  next.focus();
  next.click();
}

/** What a screen reader needs of the frame: which tab a panel belongs to, and no dead references. */
function nameTabs() {
  const list = document.querySelector('[role="tablist"]');
  if (!list) return;
  if (!list.hasAttribute("aria-label")) {
    list.setAttribute("aria-label", "Parts of the page");
    list.addEventListener("keydown", step);
  }
  for (const tab of list.querySelectorAll('[role="tab"]')) {
    const name = tab.id.replace(/-button$/, "");
    const panel = document.getElementById(name);
    panel?.setAttribute("aria-labelledby", tab.id);
    if (panel) tab.setAttribute("aria-controls", name);
    else tab.removeAttribute("aria-controls"); // Gradio makes a panel when it is first shown
  }
}

async function start() {
  const names = Object.keys(PANELS);
  const [symbols, ...markup] = await Promise.all([
    text("symbols.svg"),
    ...names.map((name) => text(`${name}.html`)),
  ]);
  const holder = make("div", { class: "vs-symbols", "aria-hidden": "true" });
  holder.innerHTML = symbols;
  document.body.append(holder);
  const loaded = new Loaded();
  const top = header(loaded);
  // The panels live apart from the frame: a tab that Gradio drops and makes again loses nothing.
  const panels = names.map((name, number) => {
    const panel = make("div", { class: "vs-content" });
    panel.innerHTML = markup[number];
    PANELS[name](panel, loaded);
    return [name, panel];
  });
  always(() => {
    const tabs = document.querySelector(".tabs");
    if (tabs && !top.isConnected) tabs.before(top);
    nameTabs();
    for (const [name, panel] of panels) {
      const place = document.querySelector(`#vs-${name} .vs-panel`);
      if (place && panel.parentNode !== place) place.append(panel);
    }
    if (panels[0][1].isConnected) document.documentElement.dataset.voxsight = "ready";
  });
  await loaded.refresh();
}

start();
