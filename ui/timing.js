/** What the last turns took, on the page's own clock. */

import { RATE } from "./sound.js";

const KEPT_TURNS = 50;
/** Pieces of the microphone's sound that are remembered: about a minute. */
const KEPT_PIECES = 2000;
/** Of the loudest piece of a turn: what is softer is no more speech (-26 dB). */
const SOFT = 0.05;

/**
 * @typedef {object} Turn
 * @property {string | null} itemId the user's item
 * @property {string | null} responseId
 * @property {"speech" | "text"} source
 * @property {Record<string, number>} marks ms since the end of speech, or since the text was sent
 */

/** Follows a session and keeps one record for each turn that is answered. */
export class TurnClock {
  /** @param {(turn: Turn) => void} onMark told whenever more is known of a turn */
  constructor(onMark) {
    this._onMark = onMark;
    /** @type {Turn[]} */
    this.turns = [];
    this.reset();
  }

  /** A new session: its sound is counted from 0. */
  reset() {
    this._pieces = [];
    this._sent = 0;
    this._begun = 0;
    this._turn = null;
  }

  /** A piece of sound was sent. @param {number} samples @param {number} rms */
  piece(samples, rms) {
    this._sent += samples;
    this._pieces.push({ until: this._sent, rms, at: performance.now() });
    if (this._pieces.length > KEPT_PIECES) this._pieces.shift();
  }

  /** A turn whose zero is known: when it was typed, or the key was let go. */
  begin(itemId, source, zero) {
    this._open(itemId, source, zero);
  }

  /** Follows one server event. @param {any} event */
  follow(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this._begun = (event.audio_start_ms * RATE) / 1000;
        break;
      case "input_audio_buffer.speech_stopped":
        this._open(event.item_id, "speech", this._endOfSpeech());
        this.mark("turnEnded");
        break;
      case "conversation.item.input_audio_transcription.completed":
        if (event.item_id === this._turn?.itemId) this.mark("transcribed");
        break;
      case "response.created":
        if (this._turn && !this._turn.responseId) {
          this._turn.responseId = event.response.id;
          this.mark("responseCreated");
        }
        break;
      case "response.output_text.delta":
      case "response.output_audio_transcript.delta":
        this._markOf(event.response_id, "firstText");
        break;
      case "response.output_audio.delta":
        this._markOf(event.response_id, "firstSound");
        break;
      case "response.done":
        this._markOf(event.response.id, "done");
        break;
    }
  }

  /** The first sample of a response is heard. @param {string} responseId @param {number} at */
  played(responseId, at) {
    this._markOf(responseId, "firstPlayed", at);
  }

  _open(itemId, source, zero) {
    this._zero = zero;
    this._turn = { itemId, responseId: null, source, marks: {} };
    this.turns.push(this._turn);
    if (this.turns.length > KEPT_TURNS) this.turns.shift();
  }

  _markOf(responseId, name, at) {
    if (this._turn?.responseId === responseId) this.mark(name, at);
  }

  mark(name, at = performance.now()) {
    if (!this._turn || name in this._turn.marks) return;
    this._turn.marks[name] = Math.round(at - this._zero);
    this._onMark(this._turn);
  }

  /** When the last piece of the turn that is not soft was recorded. */
  _endOfSpeech() {
    const pieces = this._pieces.filter((piece) => piece.until > this._begun);
    const loudest = Math.max(0, ...pieces.map((piece) => piece.rms));
    const last = pieces.findLast((piece) => piece.rms > SOFT * loudest);
    return last?.at ?? performance.now();
  }
}
