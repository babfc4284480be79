/** Sound in and out of one AudioContext: the microphone as PCM16 pieces, and a counting player. */

import { VoxsightError, deviceError } from "./faults.js";

/** Of the protocol's PCM16, in Hz. */
export const RATE = 24000;
/** Of one piece of the microphone's sound: 32 ms, what the server's voice detector takes. */
export const CHUNK = 768;

const STOP_MS = 500;
const PLAYER = { rate: RATE, leadMs: 60, longestLeadMs: 400, reportsPerS: 16 };
const CLEANED = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/**
 * @typedef {object} PlayerReport
 * @property {"began" | "progress" | "ended"} kind
 * @property {string | null} item
 * @property {number} playedMs of the item
 * @property {number} rms
 * @property {number} at when it is heard, on the clock of `performance.now()`
 */

/** The audio graph. What it needs from outside are two functions that are told what happens. */
export class Sound {
  /**
   * @param {(pcm: Int16Array, rms: number) => void} onPiece the microphone's next piece
   * @param {(report: PlayerReport) => void} onReport what the player does
   * @param {(error: VoxsightError) => void} onLost a device is gone
   */
  constructor(onPiece, onReport, onLost) {
    this._onPiece = onPiece;
    this._onReport = onReport;
    this._onLost = onLost;
    this._stops = new Map();
    this._stopCount = 0;
    /** @type {AudioContext | null} */
    this.context = null;
    /** @type {MediaStream | null} */
    this.stream = null;
  }

  /** Makes the graph. VoxsightError where the browser cannot. */
  async open() {
    if (!globalThis.isSecureContext) throw new VoxsightError("insecure_context", { fatal: true });
    if (!globalThis.AudioWorkletNode) throw new VoxsightError("unsupported_browser", { fatal: true });
    // At the device's own rate; an echo canceller and old browsers know no other.
    this.context = new AudioContext({ latencyHint: "interactive" });
    await this.context.audioWorklet.addModule(new URL("./worklets.js", import.meta.url));
    if (!this.context) return; // closed meanwhile
    this._player = new AudioWorkletNode(this.context, "voxsight-player", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: PLAYER,
    });
    this._player.port.onmessage = ({ data }) => this._hear(data);
    this.output = this.context.createGain();
    this._player.connect(this.output).connect(this.context.destination);
  }

  /** Whether the browser lets sound out; if not, the next click or key press does. */
  async unlocked() {
    const context = this.context;
    if (!context) return true; // closed meanwhile
    // The promise stays open for as long as the browser waits for a gesture.
    await Promise.race([context.resume(), new Promise((done) => setTimeout(done, 300))]);
    if (context.state === "running") return true;
    const again = () => context.state === "suspended" && context.resume();
    for (const gesture of ["pointerdown", "keydown"]) {
      globalThis.addEventListener(gesture, again, { once: true });
    }
    return false;
  }

  /**
   * Begins to listen; what was listened to before is let go.
   *
   * @param {MediaTrackConstraints} [wanted]
   */
  async openMicrophone(wanted = {}) {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { ...CLEANED, ...wanted } });
    } catch (error) {
      throw deviceError("microphone", error);
    }
    this.closeMicrophone();
    if (!this.context) {
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    this.stream = stream;
    this._source = this.context.createMediaStreamSource(stream);
    this._microphone = new AudioWorkletNode(this.context, "voxsight-microphone", {
      numberOfOutputs: 0,
      processorOptions: { rate: RATE, chunk: CHUNK },
    });
    this._microphone.port.onmessage = ({ data }) =>
      this._onPiece(new Int16Array(data.pcm), data.rms);
    this._source.connect(this._microphone);
    stream.getAudioTracks()[0].onended = () => {
      this.closeMicrophone();
      this._onLost(new VoxsightError("microphone_lost"));
    };
  }

  /** Lets the microphone go. */
  closeMicrophone() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    this._source?.disconnect();
    this._microphone?.port.postMessage({ close: true });
    this.stream = this._source = this._microphone = null;
  }

  /** @param {string} item @param {Int16Array} pcm more of an item's sound */
  play(item, pcm) {
    const samples = Float32Array.from(pcm, (sample) => sample / 32768);
    this._player?.port.postMessage({ push: item, samples }, [samples.buffer]);
  }

  /** @param {string} item no more will come of it */
  end(item) {
    this._player?.port.postMessage({ end: item });
  }

  /**
   * Falls silent at once and forgets what waits.
   *
   * @returns {Promise<{ item: string, playedMs: number }[]>} what was heard of each item
   */
  stop() {
    if (!this._player) return Promise.resolve([]);
    this._stopCount += 1;
    const stop = this._stopCount;
    return new Promise((resolve) => {
      this._stops.set(stop, resolve);
      this._player.port.postMessage({ stop });
      // A context that the browser has not let start does not answer.
      setTimeout(() => this._stops.delete(stop) && resolve([]), STOP_MS);
    });
  }

  _hear({ kind, item, heard, rms, time, stop, positions }) {
    if (kind === "stopped") {
      const told = positions.map((each) => ({ item: each.item, playedMs: inMs(each.heard) }));
      this._stops.get(stop)?.(told);
      this._stops.delete(stop);
    } else {
      this._onReport({ kind, item, playedMs: inMs(heard), rms, at: this._clock(time) });
    }
  }

  /** When a time of the context is heard, on the page's clock. */
  _clock(time) {
    const stamp = this.context?.getOutputTimestamp?.();
    if (stamp?.performanceTime > 0) {
      return stamp.performanceTime + (time - stamp.contextTime) * 1000;
    }
    return performance.now() + (time - (this.context?.currentTime ?? time)) * 1000;
  }

  /** Releases everything; may be opened again. */
  async close() {
    this.closeMicrophone();
    this._player?.port.postMessage({ close: true });
    this._player?.disconnect();
    this.output?.disconnect();
    for (const resolve of this._stops.values()) resolve([]);
    this._stops.clear();
    const context = this.context;
    this.context = this._player = this.output = null;
    await context?.close();
  }
}

/** Whole ms of a count of samples. @param {number} samples */
const inMs = (samples) => Math.floor((samples * 1000) / RATE);

/** @param {ArrayBuffer} buffer */
export function toBase64(buffer) {
  const bytes = new Uint8Array(buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}

/** @param {string} text base64 of PCM16 @returns {Int16Array} */
export function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}
