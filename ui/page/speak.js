/** The Speak tab: a text becomes sound, heard while it is being made. */

import { stream } from "./api.js";
import { canvas, colour, fill, find, peaks, save, tell, wavHeader } from "./dom.js";

const RATE = 24_000;
/** Head start of the sound, against gaps when the network is not even. */
const LEAD_S = 0.15;

/** @param {HTMLElement} root @param {import("./api.js").Loaded} loaded */
export function startSpeak(root, loaded) {
  new Speak(root, loaded);
}

/** Pieces of PCM, played one after the other as they come. */
class Player {
  constructor() {
    this.context = new AudioContext({ sampleRate: RATE });
    this.until = 0;
    this.begun = null;
  }

  /** @param {Int16Array} pcm */
  play(pcm) {
    const samples = Float32Array.from(pcm, (value) => value / 32768);
    const buffer = this.context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.context.destination);
    this.until = Math.max(this.until, this.context.currentTime + LEAD_S);
    this.begun ??= this.until;
    source.start(this.until);
    this.until += buffer.duration;
    return samples;
  }

  /** How much was heard, in s. */
  get heard() {
    return this.begun === null ? 0 : Math.max(0, Math.min(this.context.currentTime, this.until) - this.begun);
  }

  get done() {
    return this.context.currentTime >= this.until;
  }

  close() {
    if (this.context.state !== "closed") this.context.close();
  }
}

class Speak {
  constructor(root, loaded) {
    this.root = root;
    this.loaded = loaded;
    this.note = find(root, "[data-note]");
    /** What was spoken: PCM to save, loudness to draw. */
    this.pcm = [];
    this.loud = [];
    this.seconds = 0;
    const speed = find(root, "[data-speed]");
    const shown = find(root, "[data-speed-out]");
    speed.addEventListener("input", () => (shown.textContent = `${Number(speed.value).toFixed(2)}×`));
    speed.setAttribute("aria-label", "Speed");
    find(root, '[data-do="speak"]').addEventListener("click", () => this.speak());
    find(root, '[data-do="stop"]').addEventListener("click", () => this.stop());
    find(root, '[data-do="save"]').addEventListener("click", () => this.save());
    loaded.addEventListener("change", () => {
      const { voices } = loaded.value;
      fill(find(root, "[data-voice]"), voices.map((name) => [name, name]), voices[0]);
    });
  }

  async speak() {
    this.stop();
    const input = find(this.root, "[data-text]").value.trim();
    const problem = find(this.root, ".vs-problem");
    tell(problem, input ? null : "Write a text first.");
    if (!input) return;
    this.begin();
    const [player, leaving] = [this.player, this.leaving];
    try {
      const body = { model: this.loaded.value?.names.voice ?? "tts-1", voice: find(this.root, "[data-voice]").value || "alloy",
        input, response_format: "pcm", speed: Number(find(this.root, "[data-speed]").value) };
      for await (const bytes of stream("/v1/audio/speech", body, leaving.signal)) this.take(bytes);
      this.whole = true;
    } catch (error) {
      if (error.name !== "AbortError") {
        tell(problem, error.message);
        tell(this.note, null);
      }
      if (this.player === player) this.stop();
    }
  }

  begin() {
    Object.assign(this, { pcm: [], loud: [], seconds: 0, whole: false, rest: new Uint8Array(0), firstMs: null });
    this.player = new Player();
    this.leaving = new AbortController();
    this.asked = performance.now();
    tell(this.note, "Waiting for the first sound …");
    this.running(true);
    const step = () => {
      if (!this.player) return;
      this.draw();
      if (this.whole && this.player.done) this.stop();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** @param {Uint8Array} bytes of the stream; a sample may be cut in two */
  take(bytes) {
    if (this.firstMs === null) this.firstMs = Math.round(performance.now() - this.asked);
    const whole = new Uint8Array(this.rest.length + bytes.length);
    whole.set(this.rest);
    whole.set(bytes, this.rest.length);
    const even = whole.length & ~1;
    this.rest = whole.slice(even);
    if (!even) return;
    const pcm = new Int16Array(whole.buffer.slice(0, even));
    this.pcm.push(pcm);
    this.seconds += pcm.length / RATE;
    this.loud.push(...peaks(this.player.play(pcm), Math.max(1, Math.round((pcm.length / RATE) * 40))));
  }

  stop() {
    this.leaving?.abort();
    this.player?.close();
    const had = this.player;
    this.player = null;
    this.running(false);
    if (!had) return;
    this.draw();
    const figures = this.firstMs === null ? "" : ` The first sound came after ${this.firstMs} ms.`;
    const how = this.whole ? "Spoken" : "Stopped";
    tell(this.note, `${how}: ${this.seconds.toFixed(1)} s of sound.${figures}`);
  }

  running(on) {
    find(this.root, '[data-do="speak"]').disabled = on;
    find(this.root, '[data-do="stop"]').disabled = !on;
    find(this.root, '[data-do="save"]').disabled = on || !this.pcm.length;
  }

  save() {
    const size = this.pcm.reduce((sum, { byteLength }) => sum + byteLength, 0);
    save("voxsight-speech.wav", "audio/wav", wavHeader(size, RATE), ...this.pcm);
  }

  /** The sound so far; what was heard is in the accent's colour. */
  draw() {
    const element = find(this.root, ".vs-spoken");
    element.hidden = !this.loud.length;
    const { context, width, height } = canvas(element);
    const heard = this.player ? this.player.heard : this.whole ? this.seconds : 0;
    const bars = Math.max(1, Math.floor(width / 4));
    const values = this.loud.length > bars ? peaks(Float32Array.from(this.loud), bars) : this.loud;
    const done = this.seconds ? (heard / this.seconds) * values.length : 0;
    values.forEach((loud, i) => {
      const reach = Math.max(1.5, loud * (height - 8));
      context.fillStyle = colour(i < done ? "accent" : "quiet");
      context.fillRect(i * 4, (height - reach) / 2, 2.5, reach);
    });
    if (this.player && this.firstMs !== null) {
      const text = `Speaking: ${Math.floor(heard)} s heard, ${Math.floor(this.seconds)} s made.`;
      if (this.note.textContent !== text) tell(this.note, text);
    }
  }
}
