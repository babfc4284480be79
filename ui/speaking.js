/** What the assistant says, from the first sample that comes to the last one that is heard. */

import { RATE, fromBase64 } from "./sound.js";
import { Pace, SpokenText } from "./words.js";

/** Reports of what was played: 8 per second. */
const REPORT_MS = 125;
const STATES = { began: "began", progress: "playing", ended: "ended" };

/**
 * @typedef {object} Voice the sound of one item
 * @property {string} response @property {number} part its place in the item's content
 * @property {number} samples that came @property {SpokenText} words @property {number} marked
 */

/** Plays the answers of one session, counts what is heard of them, and marks the words. */
export class Speaking {
  /**
   * @param {object} around
   * @param {import("./sound.js").Sound} around.sound
   * @param {(id: string) => any} around.find an item of the conversation
   * @param {(type: string, detail: object) => void} around.tell tells the page
   * @param {(itemId: string, part: number, playedMs: number) => void} around.acknowledge
   * @param {(response: string, at: number) => void} around.began its first sample is heard
   */
  constructor(around) {
    this._around = around;
    this._pace = new Pace();
    this.reset();
  }

  /** A new session. */
  reset() {
    /** The item that is heard. @type {string | null} */
    this.playing = null;
    /** @type {Map<string, Voice>} */
    this._voices = new Map();
    /** Responses whose sound is not wanted any more. @type {Set<string>} */
    this._unwanted = new Set();
    this._reported = 0;
  }

  /** More sound of an item. @param {any} event */
  take({ item_id: item, response_id: response, content_index: part, delta }) {
    if (this._unwanted.has(response)) return;
    const pcm = fromBase64(delta);
    this._voiceOf(item, response, part).samples += pcm.length;
    this._around.sound.play(item, pcm);
  }

  /** No more sound of an item will come. @param {any} event */
  end({ item_id: item, response_id: response }) {
    if (!this._unwanted.has(response)) this._around.sound.end(item);
  }

  /** The server told when words are spoken. @param {any} event */
  time({ item_id: item, response_id: response, content_index: part, words }) {
    this._voiceOf(item, response, part).words.time(words);
  }

  /** More words of an item were written. @param {string} item @param {string} text */
  write(item, text) {
    this._voices.get(item)?.words.write(text);
  }

  /** A response is over. @param {string} response @param {boolean} whole */
  finish(response, whole) {
    this._unwanted.delete(response);
    for (const voice of this._voices.values()) {
      if (whole && voice.response === response) voice.words.finish((voice.samples * 1000) / RATE);
    }
  }

  /** What still comes of a response is not wanted. @param {string} response */
  refuse(response) {
    this._unwanted.add(response);
  }

  /** Whether sound of an item came. @param {string} item */
  has(item) {
    return this._voices.has(item);
  }

  _voiceOf(item, response, part) {
    let voice = this._voices.get(item);
    if (!voice) {
      voice = { response, part, samples: 0, words: new SpokenText(this._pace), marked: -1 };
      this._voices.set(item, voice);
    }
    voice.words.write(this._around.find(item)?.text ?? "");
    return voice;
  }

  /**
   * The player did something.
   *
   * @param {import("./sound.js").PlayerReport} report
   */
  report({ kind, item, playedMs, rms, at }) {
    const { tell, began } = this._around;
    if (kind === "progress") tell("level", { direction: "out", rms });
    const voice = this._voices.get(item);
    if (!voice) return;
    if (kind === "began") {
      this.playing = item;
      began(voice.response, at);
    }
    if (this.playing !== item) return; // it was stopped meanwhile
    this._acknowledge(item, voice.part, playedMs, kind !== "progress");
    tell("playback", { itemId: item, playedMs, state: STATES[kind] });
    this._mark(item, voice, playedMs);
    if (kind === "ended") this._heard(item);
  }

  _acknowledge(item, part, playedMs, now) {
    // The player reports twice as often; a little less than the time between is not too early.
    if (!now && performance.now() - this._reported < REPORT_MS - 10) return;
    this._reported = performance.now();
    this._around.acknowledge(item, part, playedMs);
  }

  _mark(itemId, voice, playedMs) {
    const index = voice.words.at(playedMs);
    const item = this._around.find(itemId);
    if (index < 0 || index === voice.marked || !item) return;
    voice.marked = index;
    const { start, end } = voice.words.words[index];
    item.heard = item.text.slice(0, end);
    this._around.tell("word", { itemId, index, start, end });
  }

  _heard(itemId) {
    this._unmark();
    const item = this._around.find(itemId);
    if (!item) return;
    item.heard = item.text;
    this._around.tell("heard", { itemId, text: item.text, interrupted: false });
  }

  _unmark() {
    const itemId = this.playing;
    this.playing = null;
    if (itemId) this._around.tell("word", { itemId, index: -1, start: 0, end: 0 });
  }

  /**
   * Falls silent at once.
   *
   * @returns {Promise<{ item: string, part: number, playedMs: number, text: string }[]>} what was
   *   heard of each item that was cut off: `text` by our own count
   */
  async stop() {
    const { sound, tell } = this._around;
    const voices = this._voices; // a new session has others
    const stopping = sound.stop();
    const was = this.playing;
    this._unmark();
    tell("level", { direction: "out", rms: 0 });
    const cut = (await stopping).filter(({ item }) => voices.has(item));
    for (const { item, playedMs } of cut) {
      if (item === was) tell("playback", { itemId: item, playedMs, state: "stopped" });
    }
    return cut.map(({ item, playedMs }) => {
      const { part, words } = voices.get(item);
      return { item, part, playedMs, text: words.heard(playedMs) };
    });
  }
}
