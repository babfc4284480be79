/** The conversation as the page shows it, kept from the server's events and over reconnections. */

/**
 * @typedef {object} TalkItem
 * @property {string} id
 * @property {"message" | "function_call" | "function_call_output"} type
 * @property {"user" | "assistant" | "system" | null} role
 * @property {string} text what was said or written; of an interrupted answer what was heard of it
 * @property {string} tentative of the user's words, what may still change
 * @property {string | null} heard of a spoken answer, the text as far as it was heard
 * @property {"in_progress" | "completed" | "incomplete" | "failed"} status
 * @property {string[]} images data: URLs
 * @property {{ callId: string, name?: string, arguments?: string, output?: string } | null} call
 * @property {boolean} spoken whether it is sound on this page or on the server
 */

const TRANSCRIPTION = "conversation.item.input_audio_transcription.";

/** Items in the server's order. */
export class Conversation {
  /** @param {TalkItem[]} [items] of an earlier conversation */
  constructor(items = []) {
    /** @type {TalkItem[]} */
    this.items = items.map((item) => ({ ...item }));
    /** Those that the server has put into the conversation. */
    this._placed = new WeakSet(this.items);
  }

  /** @param {string} id @returns {TalkItem | undefined} */
  find(id) {
    return this.items.find((item) => item.id === id);
  }

  /**
   * Follows one server event.
   *
   * @param {any} event
   * @returns {{ item: TalkItem, gone: boolean }[]} what changed
   */
  follow(event) {
    switch (event.type) {
      case "conversation.item.deleted":
        return this.remove(event.item_id);
      case "input_audio_buffer.cleared":
        return this._dropEmpty();
      case "input_audio_buffer.speech_started":
        return [...this._dropEmpty(), { item: this._open(event.item_id, "user"), gone: false }];
      default: {
        const item = this._changed(event);
        return item ? [{ item, gone: false }] : [];
      }
    }
  }

  /** @returns {TalkItem | null | undefined} */
  _changed(event) {
    switch (event.type) {
      case "conversation.item.added":
      case "conversation.item.done":
        return this._place(event.item, event.previous_item_id);
      case `${TRANSCRIPTION}delta`:
        return this._write(event.item_id, (text) => text + event.delta);
      case `${TRANSCRIPTION}completed`:
        return this._write(event.item_id, () => event.transcript, "completed");
      case `${TRANSCRIPTION}failed`:
        return this._write(event.item_id, (text) => text, "failed");
      case "voxsight.input_audio_transcription.tentative":
        return Object.assign(this._open(event.item_id, "user"), { tentative: event.text });
      case "response.output_text.delta":
      case "response.output_audio_transcript.delta":
        return this._write(event.item_id, (text) => text + event.delta);
      case "response.output_item.done":
        return this._set(event.item.id, { status: event.item.status });
      case "response.function_call_arguments.done":
        return this._called(event);
      default:
        return null;
    }
  }

  /** Speech that came to nothing leaves no trace. */
  _dropEmpty() {
    return this._drop((item) => !this._placed.has(item) && item.text === "");
  }

  _drop(unwanted) {
    const gone = this.items.filter(unwanted);
    this.items = this.items.filter((item) => !gone.includes(item));
    return gone.map((item) => ({ item, gone: true }));
  }

  _open(id, role) {
    const known = this.find(id);
    if (known) return known;
    const item = {
      ...{ id, type: "message", role, text: "", tentative: "", heard: null },
      ...{ status: "in_progress", images: [], call: null, spoken: role === "user" },
    };
    this.items.push(item);
    return item;
  }

  _place(told, previousId) {
    const item = this._open(told.id, told.role ?? null);
    item.type = told.type;
    if (!this._placed.has(item)) this._move(item, previousId);
    this._placed.add(item);
    const parts = told.content ?? [];
    item.spoken ||= parts.some((part) => part.type.endsWith("_audio"));
    item.images = item.images.length ? item.images : imagesOf(parts);
    item.text ||= textOf(parts);
    if (told.type === "function_call") {
      item.call = { callId: told.call_id, name: told.name, arguments: told.arguments };
    } else if (told.type === "function_call_output") {
      item.call = { callId: told.call_id, output: told.output };
    }
    // Speech is complete when its words are.
    if (!(item.role === "user" && item.spoken)) item.status = told.status;
    return item;
  }

  _move(item, previousId) {
    if (previousId === null) return;
    const before = this.find(previousId);
    if (!before) return;
    this.items.splice(this.items.indexOf(item), 1);
    this.items.splice(this.items.indexOf(before) + 1, 0, item);
  }

  _write(id, change, status) {
    const item = this._open(id, "user");
    item.text = change(item.text);
    item.tentative = "";
    if (status) item.status = status;
    return item;
  }

  _set(id, changes) {
    const item = this.find(id);
    return item ? Object.assign(item, changes) : null;
  }

  _called({ item_id: id, call_id: callId, name, arguments: json }) {
    return this._set(id, { call: { callId, name, arguments: json } });
  }

  /** @param {string} id @returns {{ item: TalkItem, gone: boolean }[]} */
  remove(id) {
    return this._drop((item) => item.id === id);
  }

  /** An answer was heard as far as `text`, and no more of it ever will be. */
  cut(id, text) {
    return this._set(id, { text, heard: text, status: "incomplete" });
  }

  /**
   * The session broke: nothing that was under way will be finished.
   *
   * @returns {{ item: TalkItem, gone: boolean }[]} what changed
   */
  broke() {
    const gone = this._drop((item) => !item.text && !item.images.length && !item.call);
    const cut = this.items.filter((item) => item.tentative || item.status === "in_progress");
    for (const item of cut) {
      item.tentative = "";
      if (item.status === "in_progress") item.status = "incomplete";
    }
    return [...gone, ...cut.map((item) => ({ item, gone: false }))];
  }

  /**
   * The events that give this conversation to a new session.
   *
   * Sound itself is not sent again: what was said in it is, as text. What nobody heard is not.
   */
  asEvents() {
    return this.items.map(asItem).filter(Boolean).map((item) => ({
      type: "conversation.item.create",
      item,
    }));
  }
}

/** @param {any[]} parts of an item of the protocol @returns {string} */
export function textOf(parts) {
  return parts.map((part) => part.text ?? part.transcript ?? "").join(" ").trim();
}

const imagesOf = (parts) => parts.filter((part) => part.image_url).map((part) => part.image_url);

/** @param {TalkItem} item @returns {object | null} as the protocol has it */
function asItem({ id, type, role, text, heard, spoken, images, call }) {
  if (type === "function_call") {
    return { id, type, call_id: call.callId, name: call.name, arguments: call.arguments };
  }
  if (type === "function_call_output") {
    return { id, type, call_id: call.callId, output: call.output };
  }
  const words = role === "assistant" && spoken ? (heard ?? "") : text;
  const kind = role === "assistant" ? "output_text" : "input_text";
  const content = images.map((url) => ({ type: "input_image", image_url: url }));
  if (words) content.push({ type: kind, text: words });
  return content.length ? { id, type, role, content } : null;
}
