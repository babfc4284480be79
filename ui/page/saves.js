/** The conversation as files: its words, its sound, and everything as JSON. */

import { find, save, wavHeader } from "./dom.js";

const RATE = 24_000;
/** Sound of an ended conversation that is kept for saving. */
const MOST_BYTES = 256e6;
/** Silence between two turns in the saved sound. */
const PAUSE = new Uint8Array(RATE * 0.4 * 2);

export class Saves {
  /** @param {HTMLElement} root @param {any} client @param {(sentence: string) => void} problem */
  constructor(root, client, problem) {
    this.client = client;
    this.problem = problem;
    this.buttons = ["text", "sound", "json"].map((name) => find(root, `[data-save="${name}"]`));
    /** PCM by the ids of items. @type {Map<string, Uint8Array>} */
    this.sounds = new Map();
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.save(button.dataset.save));
    }
  }

  get said() {
    return this.client.conversation.items.filter(({ type, text, images }) => type === "message" && (text || images.length));
  }

  offer() {
    const nothing = this.said.length === 0;
    for (const button of this.buttons) button.disabled = nothing;
  }

  /** Asks the server for the sound that it still has; afterwards it is gone with the session. */
  async collect() {
    if (this.client.state !== "live") return;
    let held = [...this.sounds.values()].reduce((sum, { length }) => sum + length, 0);
    for (const item of this.said) {
      const settled = item.status !== "in_progress" && (item.role === "user" || item.heard !== null);
      if (!item.spoken || this.sounds.has(item.id) || !settled || held > MOST_BYTES) continue;
      try {
        const { content } = await this.client.retrieve(item.id);
        const base64 = content.map(({ audio }) => audio).find(Boolean);
        if (!base64) continue;
        const sound = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        this.sounds.set(item.id, sound);
        held += sound.length;
      } catch {
        continue; // the server forgot it; the rest can still be saved
      }
    }
  }

  async save(kind) {
    const name = `voxsight-${new Date().toISOString().slice(0, 16).replace(":", "")}`;
    if (kind === "text") save(`${name}.txt`, "text/plain", this.text());
    if (kind === "json") save(`${name}.json`, "application/json", this.json());
    if (kind !== "sound") return;
    await this.collect();
    const parts = this.said.flatMap(({ id }) => (this.sounds.has(id) ? [this.sounds.get(id), PAUSE] : []));
    if (!parts.length) {
      this.problem("There is no sound to save: nothing was spoken, or the session with it has ended.");
      return;
    }
    const size = parts.reduce((sum, { length }) => sum + length, 0);
    save(`${name}.wav`, "audio/wav", wavHeader(size, RATE), ...parts);
  }

  text() {
    const who = { user: "You", assistant: "Voxsight" };
    const line = ({ role, text, images }) => `${who[role]}: ${text || (images.length ? "[a picture]" : "")}`;
    return `${this.said.map(line).join("\n")}\n`;
  }

  json() {
    const { session, conversation, turns } = this.client;
    return JSON.stringify({ saved: new Date().toISOString(), session, items: conversation.items, turns }, null, 2);
  }
}
