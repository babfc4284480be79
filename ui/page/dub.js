/** The Dub tab: a film goes in, its stages pass, and a film in another language comes out. */

import { address, follow, read, remove, send } from "./api.js";
import { clock, find, kept, make, takeFiles, tell } from "./dom.js";

const PATH = "/v1/voxsight/dubs";
const STAGES = {
  extract: "Taking out the sound",
  transcribe: "Writing down what is said",
  segment: "Cutting it into lines",
  translate: "Translating",
  fit: "Choosing words that fit",
  speak: "Speaking",
  mix: "Mixing with the original",
  mux: "Putting it into the film",
};
const AGAIN_MS = 2000;

/** @param {HTMLElement} root @param {import("./api.js").Loaded} loaded */
export function startDub(root, loaded) {
  const dub = new Dub(root);
  // By then the server is there, and has its key if it needs one.
  loaded.addEventListener("change", () => dub.goOn(), { once: true });
}

class Dub {
  constructor(root) {
    this.root = root;
    this.note = find(root, "[data-note]");
    this.inputs();
    for (const button of root.querySelectorAll("[data-save]")) {
      button.addEventListener("click", () => this.save(button.dataset.save));
    }
    const film = find(root, ".vs-film");
    film.addEventListener("loadedmetadata", () => film.toggleAttribute("data-sound", !film.videoWidth));
    film.addEventListener("error", () => this.problem("This browser cannot play the dub; save it and open it in a player."));
  }

  problem(sentence) {
    tell(find(this.root, ".vs-problem"), sentence);
  }

  inputs() {
    takeFiles(this.root, (file) => this.take(file));
    find(this.root, '[data-do="cancel"]').addEventListener("click", () => this.cancel());
  }

  /** @param {File} file */
  async take(file) {
    await this.cancel();
    kept.set("dubName", file.name.replace(/\.[^.]*$/, ""));
    const leaving = this.begin();
    const bar = find(this.root, "[data-upload]");
    tell(this.note, "Sending the film …");
    bar.hidden = false;
    bar.value = 0;
    const form = new FormData();
    form.append("file", file);
    await this.trying(leaving, async () => {
      const upload = (share) => (bar.value = share);
      const job = await send(PATH, form, { upload, signal: leaving.signal });
      kept.set("dub", job.id);
      await this.follow(job.id, leaving);
    });
  }

  /** Shows a job that this browser began before, if there is one. */
  async goOn() {
    const id = kept.get("dub", null);
    if (!id || this.leaving) return;
    const leaving = this.begin();
    await this.trying(leaving, () => this.follow(id, leaving));
  }

  begin() {
    this.problem(null);
    for (const part of this.root.querySelectorAll(".vs-result")) part.hidden = true;
    find(this.root, ".vs-work").hidden = false;
    find(this.root, ".vs-stages").hidden = true;
    find(this.root, "[data-upload]").hidden = true;
    this.leaving = new AbortController();
    return this.leaving;
  }

  async trying(leaving, work) {
    try {
      await work();
    } catch (error) {
      if (error.status === 404) kept.set("dub", null); // its time is over
      else if (error.name !== "AbortError") this.problem(error.message);
    }
    if (this.leaving !== leaving) return;
    this.leaving = null;
    find(this.root, ".vs-work").hidden = true;
  }

  /** Until the job is over, whatever the network does. */
  async follow(id, { signal }) {
    let job = await read(`${PATH}/${id}`);
    this.id = id;
    this.show(job);
    while (["waiting", "running"].includes(job.state)) {
      const event = (told) => this.show((job = told));
      await follow(`${PATH}/${id}/events`, { event, signal }).catch(async (error) => {
        if (error.name === "AbortError" || error.status) throw error;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      });
    }
    if (job.state === "failed") this.problem(job.error);
    if (job.state === "done") await this.finish(id);
  }

  async cancel() {
    const running = this.leaving !== null && this.leaving !== undefined;
    this.leaving?.abort();
    if (running && this.id) await remove(`${PATH}/${this.id}`).catch(() => {}); // it may be over
    this.id = null;
    kept.set("dub", null);
  }

  // What is shown

  show({ state, before, stages }) {
    const list = find(this.root, ".vs-stages");
    find(this.root, "[data-upload]").hidden = true;
    list.hidden = false;
    list.replaceChildren(...stages.map(stageRow));
    const running = stages.find((stage) => stage.state === "running");
    const waiting = before === 1 ? "One film comes first …" : `${before} films come first …`;
    const now = running ? `${STAGES[running.stage]} …` : state === "waiting" && before ? waiting : "Beginning …";
    if (this.note.textContent !== now) tell(this.note, now); // a screen reader hears changes only
  }

  async finish(id) {
    const film = find(this.root, ".vs-film");
    film.replaceChildren(make("track", { kind: "captions", label: "English", srclang: "en", src: await address(`${PATH}/${id}/captions`) }));
    film.src = await address(`${PATH}/${id}/video`);
    find(this.root, ".vs-time-line").src = await address(`${PATH}/${id}/picture`);
    const { totals, lines } = await read(`${PATH}/${id}/report`);
    find(this.root, ".vs-figures").replaceChildren(...figures(totals).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    find(this.root, ".vs-lines tbody").replaceChildren(...lines.map((line) => this.lineRow(line)));
    for (const part of this.root.querySelectorAll(".vs-result")) part.hidden = false;
  }

  lineRow({ slot_ms: [begin], original, wording, rate, end_error_ms: late, in_slot: fits }) {
    const film = find(this.root, ".vs-film");
    const play = () => {
      film.currentTime = begin / 1000;
      film.play().catch(() => {}); // a kind of film that this browser cannot play
    };
    const at = make("button", { type: "button", class: "vs-quiet", onclick: play, "aria-label": `Play from ${clock(begin / 1000)}` }, clock(begin / 1000));
    const ends = `${Math.abs(late)} ms ${late < 0 ? "early" : "late"}`;
    return make("tr", {}, make("td", {}, at), make("td", {}, original), make("td", {}, wording),
      make("td", {}, `${rate.toFixed(2)}×`), make("td", { class: fits ? "" : "vs-unfit" }, fits ? ends : `${ends}, misses its slot`));
  }

  async save(kind) {
    const names = { video: "-dubbed", captions: "-dubbed.vtt", report: "-dub-report.json" };
    const link = make("a", { href: await address(`${PATH}/${this.id}/${kind}`), download: kept.get("dubName", "film") + names[kind] });
    link.click();
  }
}

function stageRow({ stage, state, done, total }) {
  const words = { waiting: "to come", running: "now", done: "done", stopped: "stopped here" };
  const counted = state === "running" && total > 1;
  const count = stage === "transcribe" ? percent(done / total) : `${done} of ${total}`; // it counts time
  const row = make("li", { "data-state": state, "aria-current": state === "running" ? "step" : undefined },
    make("span", { class: "vs-stage-name" }, STAGES[stage] ?? stage),
    make("span", { class: "vs-stage-state" }, counted ? count : words[state]));
  if (counted) row.append(make("progress", { class: "vs-progress", max: total, value: done, "aria-label": STAGES[stage] }));
  return row;
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** [name, value] of what is known of the whole. */
function figures(totals) {
  const known = [
    ["Lines", totals.lines, String],
    ["End in their slot", totals.lines_in_slot, percent],
    ["At a natural pace", totals.rate_in_range, percent],
    ["Silence within lines", totals.silence_in_slot, percent],
    ["Words misheard", totals.back_wer, percent],
    ["Change of loudness", totals.loudness_delta_lu, (lu) => `${lu < 0 ? "−" : "+"}${Math.abs(lu).toFixed(1)} LU`],
  ];
  return known.filter(([, value]) => value !== null && value !== undefined).map(([name, value, words]) => [name, words(value)]);
}
