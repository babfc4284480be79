/** The Talk tab: one conversation by voice, with what is needed to steer it. */

import { VoxsightClient } from "../client.js";
import { VoxsightError } from "../faults.js";
import { key } from "./api.js";
import { fill, find, kept, tell } from "./dom.js";
import { Log } from "./log.js";
import { chooseModels, languageOptions } from "./models.js";
import { drawTurns, drawWaterfall } from "./plots.js";
import { Saves } from "./saves.js";
import { Stage } from "./stage.js";

const STATES = {
  idle: "Press to talk. Your browser will ask for the microphone.",
  connecting: "Connecting …",
  reconnecting: "The connection was lost; trying again …",
  closed: "The conversation has ended. Press to talk again.",
};
const ACTIVITIES = {
  "": "Say something.",
  listening: "Listening. Say something.",
  hearing: "I hear you.",
  thinking: "Thinking …",
  speaking: "Speaking. Talk over me to interrupt.",
};

/** @param {HTMLElement} root @param {import("./api.js").Loaded} loaded */
export function startTalk(root, loaded) {
  new Talk(root, loaded);
}

class Talk {
  constructor(root, loaded) {
    this.root = root;
    this.loaded = loaded;
    this.client = new VoxsightClient({ key, pushToTalk: kept.get("pushToTalk", false) });
    this.log = new Log(root);
    this.stage = new Stage(root, this.client, (sentence) => this.problem(sentence));
    this.saves = new Saves(root, this.client, (sentence) => this.problem(sentence));
    this.settings();
    this.buttons();
    this.keys();
    this.follow();
    this.show();
    if (!window.isSecureContext) this.problem(new VoxsightError("insecure_context").message);
  }

  problem(sentence) {
    tell(find(this.root, ".vs-stage .vs-problem"), sentence);
  }

  // What the person does

  buttons() {
    const act = {
      main: () => this.main(),
      end: () => this.end(),
      interrupt: () => this.client.interrupt(),
    };
    for (const [name, does] of Object.entries(act)) {
      find(this.root, `[data-do="${name}"]`).addEventListener("click", does);
    }
    const hold = find(this.root, '[data-do="hold"]');
    hold.addEventListener("pointerdown", (event) => {
      hold.setPointerCapture(event.pointerId);
      this.hold(true);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      hold.addEventListener(name, () => this.hold(false));
    }
    // Pressing by keyboard or by a screen reader has no "down": it switches.
    hold.addEventListener("click", (event) => event.detail === 0 && this.hold(!this.client.talking));
    find(this.root, ".vs-write").addEventListener("submit", (event) => {
      event.preventDefault();
      this.write(find(this.root, "#vs-text"));
    });
  }

  /** The round button: connect, then mute and unmute. */
  async main() {
    if (this.client.state === "live") {
      this.client.mute(!this.client.muted);
      return;
    }
    await this.connect();
  }

  async connect() {
    this.problem(null);
    await this.client.updateSession(this.session()).catch(() => {});
    await this.client.connect().catch(() => {}); // told as a problem
  }

  async end() {
    await this.saves.collect();
    await this.client.close();
    await this.loaded.refresh();
  }

  hold(down) {
    if (this.client.state === "live") this.client.pushToTalk(down).catch(() => {});
  }

  async write(field) {
    const words = field.value.trim();
    if (!words) return;
    if (this.client.state !== "live") await this.connect();
    if (this.client.state !== "live") return;
    field.value = "";
    await this.client.sendText(words);
  }

  keys() {
    const free = (target) => !target.closest("input, textarea, select, button, a, audio, dialog, [role=tab]");
    const here = () => this.root.offsetParent !== null && this.client.state === "live";
    document.addEventListener("keydown", (event) => {
      if (!here() || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") this.client.interrupt();
      if (!free(event.target)) return;
      if (event.key === "m") this.client.mute(!this.client.muted);
      if (event.key !== " " || !this.byKey.checked) return;
      event.preventDefault();
      if (!event.repeat) this.hold(true);
    });
    document.addEventListener("keyup", (event) => event.key === " " && this.client.talking && this.hold(false));
    // A key that is let go elsewhere is not told here.
    window.addEventListener("blur", () => this.client.talking && this.hold(false));
  }

  // What is chosen

  settings() {
    this.voice = find(this.root, '[data-set="voice"]');
    this.language = find(this.root, '[data-set="language"]');
    this.instructions = find(this.root, '[data-set="instructions"]');
    this.byKey = find(this.root, '[data-set="pushToTalk"]');
    this.byKey.checked = kept.get("pushToTalk", false);
    this.byKey.addEventListener("change", () => {
      kept.set("pushToTalk", this.byKey.checked);
      this.client.setPushToTalk(this.byKey.checked).catch((error) => this.problem(error.message));
      this.show();
    });
    for (const field of [this.voice, this.language, this.instructions]) {
      field.addEventListener("change", () => this.changed(field));
    }
    this.loaded.addEventListener("change", () => this.offer(this.loaded.value));
    chooseModels(this.root, this.loaded, (sentence) => this.problem(sentence));
  }

  offer({ voices, languages, instructions }) {
    fill(this.voice, voices.map((name) => [name, name]), kept.get("voice", voices[0]));
    fill(this.language, languageOptions(languages), kept.get("language", ""));
    this.instructions.placeholder = instructions;
    if (!this.instructions.value) this.instructions.value = kept.get("instructions", "");
  }

  changed(field) {
    kept.set(field.dataset.set, field.value);
    if (this.client.state !== "live") return;
    this.client.updateSession(this.session()).catch((error) => this.problem(error.message));
  }

  session() {
    const { voice, language, instructions } = this;
    const own = instructions.value.trim() || this.loaded.value?.instructions;
    return {
      ...(own ? { instructions: own } : {}),
      audio: {
        input: { transcription: { language: language.value || null } },
        ...(voice.value ? { output: { voice: voice.value } } : {}),
      },
    };
  }

  // What happens

  follow() {
    const on = (name, does) => this.client.addEventListener(name, ({ detail }) => does(detail));
    on("state", () => this.show());
    on("problem", ({ code, message, retryMs }) => {
      const again = retryMs ? ` Trying again in ${Math.ceil(retryMs / 1000)} s.` : "";
      this.problem(message + again);
      this.passing = retryMs !== undefined;
      if (code === "key_refused") this.loaded.refresh(); // which asks for another one
    });
    on("item", ({ item, gone }) => {
      this.log.item(item, this.client.conversation.items, gone);
      this.saves.offer();
    });
    on("transcript", (words) => this.log.transcript(words));
    on("word", (word) => this.log.word(word));
    on("heard", (heard) => this.log.heard(heard));
    on("timing", () => this.times());
    new ResizeObserver(() => this.times()).observe(find(this.root, ".vs-plot"));
  }

  times() {
    const { turns } = this.client;
    const last = turns.at(-1);
    if (!last) return;
    drawWaterfall(find(this.root, ".vs-waterfall"), find(this.root, "[data-last]"), last);
    if (!turns.some(({ marks }) => marks.firstPlayed !== undefined)) return;
    drawTurns(find(this.root, ".vs-plot"), find(this.root, "[data-median]"), turns);
  }

  /** The state in words, and the buttons that make sense in it. */
  show() {
    const { state, activity, muted, talking } = this.client;
    const live = state === "live";
    const busy = state === "connecting" || state === "reconnecting";
    if (live && this.shown !== "live") {
      if (this.passing) this.problem(null);
      this.loaded.refresh(); // one session more
    }
    this.shown = state;
    const main = find(this.root, '[data-do="main"]');
    const label = live ? (muted ? "Unmute" : "Mute") : busy ? "Wait" : "Connect";
    find(main, ".vs-orb-label").textContent = label;
    find(main, "use").setAttribute("href", `#vs-i-${busy ? "wait" : muted && live ? "muted" : "mic"}`);
    main.disabled = busy;
    const byKey = this.byKey.checked;
    find(this.root, ".vs-stage").dataset.state = live ? activity || "listening" : state;
    find(this.root, ".vs-stage").toggleAttribute("data-muted", muted && live);
    find(this.root, '[data-do="end"]').disabled = !live && !busy;
    find(this.root, '[data-do="interrupt"]').disabled = activity !== "speaking" && activity !== "thinking";
    const hold = find(this.root, '[data-do="hold"]');
    hold.hidden = !byKey;
    hold.disabled = !live;
    hold.setAttribute("aria-pressed", talking);
    let sentence = live ? ACTIVITIES[activity] : STATES[state];
    if (live && muted) sentence = "You are muted.";
    else if (live && byKey && !talking && activity !== "speaking" && activity !== "thinking") {
      sentence = "Hold Space, or the button, and speak.";
    }
    const status = find(this.root, ".vs-status");
    if (status.textContent !== sentence) status.textContent = sentence;
  }
}
