/** The Transcribe tab: a recording becomes words, with their times on its waveform. */

import { events } from "./api.js";
import { canvas, clock, colour, fill, find, kept, make, peaks, save, takeFiles, tell } from "./dom.js";
import { languageOptions } from "./models.js";

/** Of the waveform. */
const PIXELS_PER_S = 100;
/** Larger files are not decoded here: their waveform is left out, their words are not. */
const LARGEST_DRAWN = 60e6;

/** @param {HTMLElement} root @param {import("./api.js").Loaded} loaded */
export function startTranscribe(root, loaded) {
  new Transcribe(root, loaded);
}

class Transcribe {
  constructor(root, loaded) {
    this.root = root;
    this.forget();
    this.language = find(root, "[data-language]");
    loaded.addEventListener("change", () => {
      fill(this.language, languageOptions(loaded.value.languages), kept.get("spoken", ""));
    });
    this.language.addEventListener("change", () => kept.set("spoken", this.language.value));
    this.inputs();
    this.timeline();
    for (const button of root.querySelectorAll("[data-save]")) {
      button.addEventListener("click", () => this.save(button.dataset.save));
    }
  }

  forget() {
    Object.assign(this, { words: [], wave: null, duration: 0, subtitles: null, name: "recording" });
  }

  problem(sentence) {
    tell(find(this.root, ".vs-problem"), sentence);
  }

  inputs() {
    takeFiles(this.root, (file) => this.take(file));
    find(this.root, '[data-do="record"]').addEventListener("click", () => this.record());
    find(this.root, '[data-do="cancel"]').addEventListener("click", () => this.leaving?.abort());
  }

  /** The button begins a recording, or ends it. */
  async record() {
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    this.problem(null);
    if (!navigator.mediaDevices) {
      this.problem("The browser gives no microphone to pages without https; open the page over https, or choose a file.");
      return;
    }
    let microphone;
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      const refused = error.name === "NotAllowedError";
      this.problem(refused ? "The browser refused the microphone; allow it beside the page's address and try again."
        : "No microphone could be opened; plug one in, or choose a file.");
      return;
    }
    const recorder = new MediaRecorder(microphone);
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      for (const track of microphone.getTracks()) track.stop();
      this.recorder = null;
      this.recording(false);
      this.take(new File(parts, "recording.webm", { type: recorder.mimeType }));
    };
    this.recorder = recorder;
    recorder.start();
    this.recording(true);
  }

  recording(on) {
    const button = find(this.root, '[data-do="record"]');
    button.textContent = on ? "Stop recording" : "Record";
    button.setAttribute("aria-pressed", on);
  }

  /** @param {File} file */
  async take(file) {
    this.leaving?.abort();
    this.forget();
    this.problem(null);
    this.name = file.name.replace(/\.[^.]*$/, "") || "recording";
    find(this.root, ".vs-result").hidden = false;
    find(this.root, ".vs-words").replaceChildren();
    for (const button of this.root.querySelectorAll("[data-save]")) button.disabled = true;
    this.play(file);
    this.draw();
    const leaving = (this.leaving = new AbortController());
    find(this.root, ".vs-work").hidden = false;
    try {
      const wave = this.decode(file);
      await this.send(file, leaving.signal);
      await wave;
    } catch (error) {
      if (error.name !== "AbortError") this.problem(error.message);
    }
    if (this.leaving !== leaving) return;
    this.leaving = null;
    find(this.root, ".vs-work").hidden = true;
    if (!this.words.length && this.subtitles) this.problem("No words were found in this recording.");
  }

  play(file) {
    const player = find(this.root, ".vs-player");
    if (player.src) URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(file);
  }

  async decode(file) {
    if (file.size > LARGEST_DRAWN) return;
    try {
      const context = new OfflineAudioContext(1, 1, 16_000);
      const sound = await context.decodeAudioData(await file.arrayBuffer());
      this.wave = peaks(sound.getChannelData(0), Math.ceil((sound.duration * PIXELS_PER_S) / 3));
      this.duration ||= sound.duration;
      this.draw();
    } catch {
      this.wave = null; // the server reads more kinds of files than the browser
    }
  }

  async send(file, signal) {
    const note = find(this.root, "[data-note]");
    const bar = find(this.root, ".vs-progress");
    const form = new FormData();
    form.append("file", file);
    form.append("language", this.language.value);
    bar.value = 0;
    tell(note, "Sending the recording …");
    const upload = (share) => {
      bar.value = 0.1 * share;
      if (share === 1) tell(note, "Listening …");
    };
    const event = (told) => {
      if (told.type === "voxsight.transcript.begun") this.duration = told.duration;
      if (told.type === "voxsight.transcript.segment") {
        this.add(told.words);
        bar.value = 0.1 + 0.9 * Math.min(1, told.end / this.duration);
        tell(note, `${clock(told.end)} of ${clock(this.duration)} written down`);
      }
      if (told.type === "voxsight.transcript.done") this.finish(told);
      this.draw();
    };
    await events("/v1/voxsight/transcriptions", form, { event, upload, signal });
  }

  add(words) {
    const place = find(this.root, ".vs-words");
    for (const word of words) {
      const button = make("button", { type: "button", "aria-label": `${word.word}, at ${clock(word.start)}`, title: clock(word.start) }, word.word);
      button.addEventListener("click", () => this.seek(word.start));
      place.append(button, " ");
      this.words.push({ ...word, button });
    }
  }

  finish({ text, srt, vtt }) {
    this.subtitles = { txt: `${text}\n`, srt, vtt };
    for (const button of this.root.querySelectorAll("[data-save]")) button.disabled = false;
  }

  save(kind) {
    const types = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt" };
    save(`${this.name}.${kind}`, types[kind], this.subtitles[kind]);
  }

  seek(seconds) {
    const player = find(this.root, ".vs-player");
    player.currentTime = seconds;
    player.play().catch(() => {}); // a format that only the server can play
  }

  // The waveform: only what is in view is drawn, so that hours fit

  timeline() {
    const view = find(this.root, ".vs-timeline");
    const player = find(this.root, ".vs-player");
    const again = () => requestAnimationFrame(() => this.draw());
    view.addEventListener("scroll", again);
    new ResizeObserver(again).observe(view);
    view.addEventListener("click", (event) => {
      const x = event.clientX - view.getBoundingClientRect().left + view.scrollLeft;
      this.seek(x / PIXELS_PER_S);
    });
    player.addEventListener("timeupdate", () => {
      const x = player.currentTime * PIXELS_PER_S;
      if (!player.paused && (x < view.scrollLeft || x > view.scrollLeft + view.clientWidth * 0.9)) view.scrollLeft = x - 40;
      this.draw();
    });
  }

  draw() {
    const view = find(this.root, ".vs-timeline");
    if (!view.clientWidth) return;
    const at = find(this.root, ".vs-player").currentTime;
    find(this.root, ".vs-timeline-length").style.width = `${Math.max(view.clientWidth, this.duration * PIXELS_PER_S)}px`;
    const drawing = canvas(find(view, "canvas"), view.clientWidth);
    const from = view.scrollLeft / PIXELS_PER_S;
    this.drawWave(drawing, from, at);
    this.drawWords(drawing, from, at);
  }

  drawWave({ context, width }, from, at) {
    if (!this.wave) return;
    const bars = Math.ceil(width / 3);
    const first = Math.floor((from * PIXELS_PER_S) / 3);
    for (let i = 0; i < bars && first + i < this.wave.length; i += 1) {
      const reach = Math.max(1, this.wave[first + i] * 76);
      context.fillStyle = colour((first + i) * 3 < at * PIXELS_PER_S ? "accent" : "quiet");
      context.fillRect((first + i) * 3 - from * PIXELS_PER_S, 42 - reach / 2, 2, reach);
    }
  }

  drawWords({ context, width, height }, from, at) {
    const until = from + width / PIXELS_PER_S;
    context.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    const free = [-Infinity, -Infinity, -Infinity];
    for (const { word, start, end, button } of this.words) {
      const now = start <= at && at < end && at > 0;
      button.toggleAttribute("data-now", now);
      if (end < from - 1 || start > until) continue;
      const x = (start - from) * PIXELS_PER_S;
      const row = free.findIndex((until) => x >= until);
      context.fillStyle = colour("accent-soft");
      context.fillRect(x, 86, Math.max(2, (end - start) * PIXELS_PER_S - 2), 4);
      context.fillStyle = colour(now ? "accent" : "ink");
      if (row < 0) continue;
      context.fillText(word, x, height - 40 + row * 16);
      free[row] = x + context.measureText(word).width + 6;
    }
  }
}
