/**
 * Which word of an answer is being spoken.
 *
 * The server tells the times of words if it can (`voxsight.output_audio.words`). Without them they
 * are guessed: a word takes as long as it has letters, a pause as long as its sign calls for, and
 * what one such unit takes is learned from the answers that were heard to their end.
 */

/** Pauses after a word, in letters. */
const PAUSES = { ",": 3, ";": 4, ":": 4, ".": 6, "!": 6, "?": 6, "…": 6 };
const DIGIT = 4; // "7" is spoken as "seven"
const FIRST_MS = 66; // per unit, of a voice at its usual pace
const LOOK_AHEAD = 6; // words of the text that the server may have left unspoken

/**
 * @typedef {object} TextWord
 * @property {number} start @property {number} end characters of the text
 * @property {number} weight in letters
 */

/** @param {string} text @returns {TextWord[]} */
export function wordsOf(text) {
  return Array.from(text.matchAll(/\S+/gu), (match) => ({
    start: match.index,
    end: match.index + match[0].length,
    weight: weightOf(match[0]),
  }));
}

function weightOf(word) {
  const letters = word.match(/\p{L}/gu)?.length ?? 0;
  const digits = word.match(/\p{N}/gu)?.length ?? 0;
  return 1 + letters + DIGIT * digits + (PAUSES[word.at(-1)] ?? 0);
}

/** What one unit of weight takes, learned over answers. */
export class Pace {
  constructor() {
    this.msPerUnit = FIRST_MS;
  }

  /** @param {number} weight @param {number} ms of one whole answer */
  learn(weight, ms) {
    if (weight > 0 && ms > 0) this.msPerUnit += (ms / weight - this.msPerUnit) / 2;
  }
}

/** One answer that is being spoken while it is being written. */
export class SpokenText {
  /** @param {Pace} pace */
  constructor(pace) {
    this._pace = pace;
    this._text = "";
    /** @type {TextWord[]} */
    this.words = [];
    /** When words begin, as far as the server told. @type {{ place: number, ms: number }[]} */
    this._times = [];
    this._totalMs = null;
    this._last = -1;
  }

  /** @param {string} text all that is written by now */
  write(text) {
    if (text === this._text) return;
    this._text = text;
    this.words = wordsOf(text);
  }

  /** @param {{ text: string, start_ms: number }[]} told the times of the next words */
  time(told) {
    for (const { text, start_ms: ms } of told) {
      const next = (this._times.at(-1)?.place ?? -1) + 1;
      const ahead = this.words.slice(next, next + LOOK_AHEAD);
      const found = ahead.findIndex(({ start, end }) => this._text.slice(start, end) === text);
      this._times.push({ place: next + Math.max(0, found), ms });
    }
  }

  /** @param {number} ms how long all of its sound is */
  finish(ms) {
    this._totalMs = ms;
    this._pace.learn(this._weight, ms);
  }

  get _weight() {
    return this.words.reduce((sum, word) => sum + word.weight, 0);
  }

  /**
   * The word that is heard after `ms` of sound; it never goes back.
   *
   * @param {number} ms @returns {number} its place in `words`, -1 for none
   */
  at(ms) {
    const found = this._times.length > 0 ? this._timed(ms) : this._guessed(ms);
    this._last = Math.min(Math.max(found, this._last), this.words.length - 1);
    return this._last;
  }

  _timed(ms) {
    return this._times.findLast((word) => word.ms <= ms)?.place ?? -1;
  }

  _guessed(ms) {
    const perUnit = this._totalMs === null ? this._pace.msPerUnit : this._totalMs / this._weight;
    let end = 0;
    for (const [place, word] of this.words.entries()) {
      end += word.weight * perUnit;
      if (ms < end) return place;
    }
    return this.words.length - 1;
  }

  /** The text as far as it is heard after `ms`. @param {number} ms */
  heard(ms) {
    const place = ms > 0 ? this.at(ms) : -1;
    return place < 0 ? "" : this._text.slice(0, this.words[place].end);
  }
}
