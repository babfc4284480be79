/**
 * What runs in the audio thread: the resampler, the microphone and the player.
 *
 * Loaded twice: as an audio worklet, and as a module by who wants the resampler alone.
 */

/** Zero crossings of the filter on each side: a transition band of about 6 % of the rate. */
const CROSSINGS = 24;
/** Of the lower of the two Nyquist frequencies, where the filter is 6 dB down. */
const CUTOFF = 0.94;
/** Kaiser window: stop band near -80 dB. */
const BETA = 8;
/** @type {Map<string, {up: number, down: number, taps: number, table: Float32Array}>} */
const filters = new Map();

/** Modified Bessel function of the first kind, order 0. @param {number} x */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > sum * 1e-12; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** @param {number} a @param {number} b @returns {number} */
const divisor = (a, b) => (b ? divisor(b, a % b) : a);

/**
 * One row of taps for each place that an output sample can have between two input samples.
 *
 * @param {number} from @param {number} to rates in Hz
 */
function filterOf(from, to) {
  const name = `${from}:${to}`;
  let filter = filters.get(name);
  if (filter) return filter;
  const common = divisor(from, to);
  const up = to / common;
  const down = from / common;
  const scale = Math.min(1, to / from);
  const half = Math.ceil(CROSSINGS / scale);
  const taps = 2 * half;
  const table = new Float32Array(up * taps);
  for (let phase = 0; phase < up; phase += 1) {
    const row = table.subarray(phase * taps, (phase + 1) * taps);
    let sum = 0;
    for (let k = 0; k < taps; k += 1) {
      const u = (k - half + 1 - phase / up) * scale;
      const x = Math.PI * CUTOFF * u;
      const edge = Math.abs(u) < CROSSINGS ? Math.sqrt(1 - (u / CROSSINGS) ** 2) : 0;
      row[k] = (x === 0 ? 1 : Math.sin(x) / x) * (bessel(BETA * edge) / bessel(BETA));
      sum += row[k];
    }
    for (let k = 0; k < taps; k += 1) row[k] /= sum;
  }
  filter = { up, down, taps, table };
  filters.set(name, filter);
  return filter;
}

/**
 * Changes the rate of one stream of sound with a polyphase windowed-sinc low-pass.
 *
 * Output sample n stands at the time n / to; it comes once the filter's half is known after it
 * (1 ms at 24 kHz). However the stream is cut into pieces, the output is the same.
 */
export class Resampler {
  /** @param {number} from @param {number} to whole rates in Hz */
  constructor(from, to) {
    this.from = from;
    this.to = to;
    this._filter = filterOf(from, to);
    this._half = this._filter.taps / 2;
    /** Input that is still needed; it begins with silence before the first sample. */
    this._held = new Float32Array(this._half - 1);
    this._phase = 0;
    this._taken = 0;
    this._given = 0;
  }

  /** @param {Float32Array} samples @returns {Float32Array} what can be told from them */
  push(samples) {
    this._taken += samples.length;
    if (this.from === this.to) return samples.slice();
    return this._run(samples, Infinity);
  }

  /** The rest, as if silence followed. @returns {Float32Array} */
  finish() {
    if (this.from === this.to) return new Float32Array(0);
    const whole = Math.round((this._taken * this.to) / this.from);
    return this._run(new Float32Array(this._half + 1), whole - this._given);
  }

  /** @param {Float32Array} samples @param {number} most */
  _run(samples, most) {
    const { up, down, taps, table } = this._filter;
    const sound = new Float32Array(this._held.length + samples.length);
    sound.set(this._held);
    sound.set(samples, this._held.length);
    const room = Math.max(0, Math.ceil(((sound.length - taps + 1) * up) / down) + 1);
    const out = new Float32Array(Math.min(room, Math.max(0, most)));
    let at = 0;
    let count = 0;
    while (at + taps <= sound.length && count < out.length) {
      const row = this._phase * taps;
      let sum = 0;
      for (let k = 0; k < taps; k += 1) sum += sound[at + k] * table[row + k];
      out[count] = sum;
      count += 1;
      const next = this._phase + down;
      at += Math.floor(next / up);
      this._phase = next % up;
    }
    this._held = sound.slice(at);
    this._given += count;
    return out.subarray(0, count);
  }
}

/** @param {Float32Array} samples */
const powerOf = (samples) => samples.reduce((sum, sample) => sum + sample * sample, 0);

/** The processors' base class; a stand-in where this is loaded outside the audio thread. */
const Base = globalThis.AudioWorkletProcessor ?? class {};

/**
 * The microphone: the device's rate to PCM16 at `rate`, in pieces of `chunk` samples.
 *
 * Posts { pcm: ArrayBuffer, rms }. Ends when it is sent "close".
 */
class Microphone extends Base {
  constructor({ processorOptions: { rate, chunk } }) {
    super();
    this._resampler = new Resampler(globalThis.sampleRate, rate);
    this._chunk = new Int16Array(chunk);
    this._filled = 0;
    this._power = 0;
    this._open = true;
    this.port.onmessage = () => {
      this._open = false;
    };
  }

  process([channels]) {
    if (channels.length > 0) this._take(this._resampler.push(mono(channels)));
    return this._open;
  }

  _take(samples) {
    for (const sample of samples) {
      const whole = Math.max(-1, Math.min(1, sample));
      this._power += whole * whole;
      this._chunk[this._filled] = Math.round(whole * 32767);
      this._filled += 1;
      if (this._filled === this._chunk.length) this._post();
    }
  }

  _post() {
    const pcm = this._chunk.slice().buffer;
    this.port.postMessage({ pcm, rms: Math.sqrt(this._power / this._filled) }, [pcm]);
    this._filled = 0;
    this._power = 0;
  }
}

/** @param {Float32Array[]} channels */
function mono(channels) {
  if (channels.length === 1) return channels[0];
  const mix = new Float32Array(channels[0].length);
  for (const channel of channels) {
    for (let k = 0; k < mix.length; k += 1) mix[k] += channel[k] / channels.length;
  }
  return mix;
}

/** Sound of one item that waits to be played. */
class Waiting {
  constructor(item, rate) {
    this.item = item;
    this.rate = rate;
    this.ended = false;
    this.played = 0; // at the context's rate, as `left`
    this.left = 0;
    this._received = 0; // at `rate`
    this._pieces = [];
    this._at = 0; // in the first piece
    this._resampler = new Resampler(rate, globalThis.sampleRate);
  }

  push(samples) {
    this._received += samples.length;
    this._add(this._resampler.push(samples));
  }

  end() {
    if (!this.ended) this._add(this._resampler.finish());
    this.ended = true;
  }

  _add(samples) {
    if (samples.length === 0) return;
    this._pieces.push(samples);
    this.left += samples.length;
  }

  /** Fills `out` from `start` on as far as there is sound; returns where it stopped. */
  take(out, start) {
    let at = start;
    while (at < out.length && this._pieces.length > 0) {
      const piece = this._pieces[0];
      const count = Math.min(out.length - at, piece.length - this._at);
      out.set(piece.subarray(this._at, this._at + count), at);
      at += count;
      this._at += count;
      if (this._at === piece.length) {
        this._pieces.shift();
        this._at = 0;
      }
    }
    this.played += at - start;
    this.left -= at - start;
    return at;
  }

  /** Samples that were heard, at the rate at which they came. */
  get heard() {
    const heard = Math.floor((this.played * this.rate) / globalThis.sampleRate);
    return Math.min(heard, this._received);
  }
}

/**
 * Plays items one after the other, and counts the samples of each that were heard.
 *
 * A jitter buffer: it begins when `leadMs` of an item are there, or all of it. When it runs dry in
 * the middle it waits for more, and asks for half as much again the next time, up to
 * `longestLeadMs`.
 *
 * Takes { push: item, samples }, { end: item }, { stop: number }, { close }. Posts
 * { kind: "began" | "progress" | "ended", item, heard, rms, time } and { kind: "stopped", stop,
 * positions: [{ item, heard }] }; `heard` counts samples at `rate`.
 */
class Player extends Base {
  constructor({ processorOptions: { rate, leadMs, longestLeadMs, reportsPerS } }) {
    super();
    const perMs = globalThis.sampleRate / 1000;
    this._rate = rate;
    this._lead = leadMs * perMs;
    this._longestLead = longestLeadMs * perMs;
    this._interval = Math.round(globalThis.sampleRate / reportsPerS);
    /** @type {Waiting[]} */
    this._items = [];
    this._fading = new Float32Array(0);
    this._playing = false;
    this._open = true;
    this._power = 0;
    this._since = 0;
    this.port.onmessage = ({ data }) => this._obey(data);
  }

  _obey(data) {
    if ("push" in data) this._itemOf(data.push).push(data.samples);
    else if ("end" in data) this._items.find(({ item }) => item === data.end)?.end();
    else if ("stop" in data) this._stop(data.stop);
    else this._open = false;
  }

  _itemOf(name) {
    let found = this._items.find(({ item }) => item === name);
    if (!found) {
      found = new Waiting(name, this._rate);
      this._items.push(found);
    }
    return found;
  }

  /** Falls silent within 5 ms, without a click. */
  _stop(stop) {
    const fading = new Float32Array(Math.round(globalThis.sampleRate / 200));
    if (this._playing) this._items[0]?.take(fading, 0);
    for (let k = 0; k < fading.length; k += 1) fading[k] *= 1 - k / fading.length;
    this._fading = this._playing ? fading : new Float32Array(0);
    const positions = this._items.map(({ item, heard }) => ({ item, heard }));
    this._items = [];
    this._playing = false;
    this.port.postMessage({ kind: "stopped", stop, positions });
  }

  process(_inputs, [channels]) {
    const out = channels[0];
    let at = Math.min(this._fading.length, out.length);
    out.set(this._fading.subarray(0, at));
    this._fading = this._fading.slice(at);
    while (at < out.length && this._ready()) at = this._play(this._items[0], out, at);
    for (const channel of channels.slice(1)) channel.set(out);
    this._meter(out);
    return this._open;
  }

  /** Whether the first item can be played on. */
  _ready() {
    const first = this._items[0];
    if (!first) {
      this._playing = false;
    } else if (!this._playing) {
      this._playing = first.ended || first.left >= this._lead;
    }
    return this._playing;
  }

  _play(first, out, at) {
    if (first.played === 0 && first.left > 0) this._tell("began", first, at);
    const until = first.take(out, at);
    if (first.left > 0) return until;
    if (first.ended) {
      this._tell("ended", first, until);
      this._items.shift();
      this._playing = false; // until it is known that the next one can be
    } else if (until < out.length) {
      this._playing = false;
      this._lead = Math.min(this._lead * 1.5, this._longestLead);
    }
    return until;
  }

  _meter(out) {
    if (!this._playing && this._since === 0) return;
    this._power += powerOf(out);
    this._since += out.length;
    if (this._playing && this._since < this._interval) return;
    this._tell("progress", this._items[0], 0);
    this._power = 0;
    this._since = 0;
  }

  _tell(kind, waiting, at) {
    this.port.postMessage({
      kind,
      item: waiting?.item ?? null,
      heard: waiting?.heard ?? 0,
      rms: this._since ? Math.sqrt(this._power / this._since) : 0,
      time: globalThis.currentTime + at / globalThis.sampleRate,
    });
  }
}

if (globalThis.registerProcessor) {
  globalThis.registerProcessor("voxsight-microphone", Microphone);
  globalThis.registerProcessor("voxsight-player", Player);
}
