/** One dialogue with a server, without devices and sockets: what its events mean, what to send. */

import { Asking, newId } from "./asking.js";
import { textOf } from "./conversation.js";
import { VoxsightError } from "./faults.js";
import { Speaking } from "./speaking.js";
import { TurnClock } from "./timing.js";

const TRANSCRIPTION = "conversation.item.input_audio_transcription.";

/** The session that runs, and the conversation that lasts longer than one session. */
export class Dialogue {
  /**
   * @param {object} around
   * @param {import("./conversation.js").Conversation} around.conversation
   * @param {import("./sound.js").Sound} around.sound
   * @param {(event: object) => boolean} around.send
   * @param {(type: string, detail: any) => void} around.tell tells the page
   * @param {(error: VoxsightError) => void} around.problem
   */
  constructor(around) {
    this._around = around;
    this.conversation = around.conversation;
    this.clock = new TurnClock((turn) => around.tell("timing", turn));
    this.asking = new Asking(around.send);
    this._speaking = new Speaking({
      sound: around.sound,
      find: (id) => this.conversation.find(id),
      tell: around.tell,
      acknowledge: (item, part, playedMs) =>
        this.asking.quietly({
          type: "voxsight.playback.update",
          ...{ item_id: item, content_index: part, audio_played_ms: playedMs },
        }),
      began: (response, at) => this.clock.played(response, at),
    });
    /** The session in force. @type {any} */
    this.session = null;
    /** What a session is given that asks for no other. @type {any} */
    this.detection = null;
    this.reset();
  }

  /** A new session. */
  reset() {
    this._hearing = this._waiting = false;
    /** The response that is under way. @type {string | null} */
    this._response = null;
    this._speaking.reset();
    this.clock.reset();
  }

  /** What is going on: "hearing", "speaking", "thinking" or "listening". */
  get activity() {
    if (this._hearing) return "hearing";
    if (this._speaking.playing) return "speaking";
    return this._waiting || this._response ? "thinking" : "listening";
  }

  // What the client does

  /** Asks for an answer. @param {string | null} itemId what it answers, if it was written
   *  @param {number} [since] when that was said */
  answer(itemId, since = performance.now()) {
    this.clock.begin(itemId, itemId ? "text" : "speech", since);
    this._waiting = true;
    this._around.send({ type: "response.create" });
  }

  /** @param {object[]} content of a message @param {boolean} respond @returns {Promise<string>} */
  async say(content, respond) {
    if (respond) await this.interrupt();
    const item = { id: newId("item"), type: "message", role: "user", content };
    this._around.send({ type: "conversation.item.create", item });
    if (respond) this.answer(item.id);
    return item.id;
  }

  /** Stops the answer; the conversation keeps what was heard of it. */
  async interrupt() {
    const response = this._response;
    if (response) {
      this._speaking.refuse(response);
      this.asking.quietly({ type: "response.cancel", response_id: response });
    }
    for (const { item, part, playedMs } of await this._speaking.stop()) {
      this._truncate(item, part, playedMs);
    }
  }

  /** @param {string} itemId @returns {Promise<any>} the item, with its sound */
  async retrieve(itemId) {
    const event = { type: "conversation.item.retrieve", item_id: itemId };
    return (await this.asking.ask(event, "conversation.item.retrieved", itemId)).item;
  }

  /** The session is over. Without it to ask, an answer is what we count to be heard of it. */
  async broke(error) {
    this.asking.fail(error);
    this._hearing = this._waiting = false;
    this._response = null;
    for (const { item, text } of await this._speaking.stop()) this._cut(item, text);
    this._changed(this.conversation.broke());
  }

  /** @param {import("./sound.js").PlayerReport} report what the player did */
  report(report) {
    if (report.kind === "began") this._waiting = false;
    this._speaking.report(report);
  }

  _truncate(item, part, endMs) {
    this.asking.quietly({
      type: "conversation.item.truncate",
      ...{ item_id: item, content_index: part, audio_end_ms: endMs },
    });
  }

  // What the server tells

  /** Follows one server event. @param {any} event */
  follow(event) {
    this.clock.follow(event);
    this._changed(this.conversation.follow(event));
    if (this.asking.follow(event) && event.type === "error") return;
    this._mean(event);
  }

  _changed(changes) {
    for (const change of changes) this._around.tell("item", change);
  }

  _mean(event) {
    switch (event.type) {
      case "error":
        return this._refused(event.error);
      case "session.created":
        this.detection = event.session.audio.input.turn_detection;
        return undefined;
      case "session.updated":
        this.session = event.session;
        return this._around.tell("session", event.session);
      case "voxsight.camera.frame_seen":
        return this._around.tell("seen", {
          sightings: event.sightings,
          recognised: event.recognised,
        });
      case "conversation.item.truncated":
        return this._shortened(event.item_id);
      default:
        if (event.type.startsWith("response.")) return this._answered(event);
        return this._listened(event);
    }
  }

  _refused({ code, message }) {
    if (code === "session_expired") return; // the close that follows is told
    this._around.problem(new VoxsightError("event_refused", { message }));
  }

  /** Of the user's turns. */
  _listened(event) {
    const detection = this.session?.audio.input.turn_detection;
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this._hearing = true;
        if (detection?.interrupt_response === false) break;
        if (this._response) this._speaking.refuse(this._response);
        this._speaking.stop(); // the server itself cuts the answer to what was heard
        break;
      case "input_audio_buffer.speech_stopped":
        this._hearing = false;
        this._waiting = detection?.create_response !== false;
        break;
      case "input_audio_buffer.cleared":
        this._hearing = false;
        break;
      case `${TRANSCRIPTION}delta`:
      case "voxsight.input_audio_transcription.tentative":
        this._understood(event.item_id, false);
        break;
      case `${TRANSCRIPTION}completed`:
      case `${TRANSCRIPTION}failed`:
        this._understood(event.item_id, true);
        break;
      case "voxsight.output_audio.words":
        this._speaking.time(event);
        break;
    }
  }

  _understood(itemId, final) {
    const { text, tentative } = this.conversation.find(itemId);
    this._around.tell("transcript", { itemId, text, tentative, final });
    if (final && !text) this._waiting = false; // nothing was said, so nothing is answered
  }

  /** Of the assistant's answers. */
  _answered(event) {
    switch (event.type) {
      case "response.created":
        if (event.response.conversation_id) this._response = event.response.id;
        break;
      case "response.output_text.delta":
      case "response.output_audio_transcript.delta":
        this._written(event.item_id, false);
        break;
      case "response.output_text.done":
      case "response.output_audio_transcript.done":
        this._written(event.item_id, true);
        break;
      case "response.output_audio.delta":
        this._speaking.take(event);
        break;
      case "response.output_audio.done":
        this._speaking.end(event);
        break;
      case "response.done":
        this._done(event.response);
        break;
    }
  }

  _written(itemId, final) {
    const text = this.conversation.find(itemId)?.text ?? "";
    this._speaking.write(itemId, text);
    this._around.tell("answer", { itemId, text, final });
  }

  _done({ id, status, status_details: details, output, conversation_id: ours }) {
    if (this._response === id) this._response = null;
    this._waiting = false;
    this._speaking.finish(id, status === "completed");
    for (const item of status === "completed" || !ours ? [] : output) {
      const silent = item.content?.some(({ type }) => type === "output_audio");
      // Words whose sound never came were not heard, and the server is not sure of that.
      if (silent && !this._speaking.has(item.id)) this._truncate(item.id, 0, 0);
    }
    if (status === "failed") {
      this._around.problem(new VoxsightError("server_failed", { message: details?.error?.message }));
    }
  }

  /** Words that nobody heard are gone from an answer: ask which are left. */
  async _shortened(itemId) {
    const item = await this.retrieve(itemId).catch(() => null);
    if (item) this._cut(itemId, textOf(item.content));
  }

  _cut(itemId, text) {
    const item = this.conversation.cut(itemId, text);
    if (!item) return;
    this._around.tell("item", { item, gone: false });
    this._around.tell("heard", { itemId, text, interrupted: true });
  }
}
