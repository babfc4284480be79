/** One WebSocket after the other: the way to the server, reopened when it breaks. */

import { VoxsightError, closeError, handshakeError } from "./faults.js";

/** A session that lived so long was no failed attempt. */
const LIVED_MS = 5000;
/** More than 16 s of sound that the network does not take: the connection is dead. */
const MOST_WAITING_BYTES = 1 << 20;
const HANDSHAKE_MS = 15000;

/** @param {string | undefined} url @returns {URL} the realtime endpoint as ws: or wss: */
export function endpoint(url) {
  const here = new URL(url ?? "/v1/realtime", globalThis.location?.href);
  here.protocol = here.protocol.replace("http", "ws");
  // What of our own the server may send beside the events of OpenAI's API.
  here.searchParams.set("extensions", "tentative,words");
  return here;
}

/**
 * Keeps a session open.
 *
 * After a close that may pass (1001, 1006, 1012, 1013, 4429, or the end of a session's longest time) it
 * waits and opens another one: `firstMs`, doubled each time up to `longestMs`, of which a random
 * half to all, so that not all pages of a server come back at once.
 */
export class Link {
  /**
   * @param {object} options
   * @param {string} [options.url]
   * @param {string | (() => string | Promise<string>)} [options.key]
   * @param {false | { attempts: number, firstMs: number, longestMs: number }} options.reconnect
   * @param {object} told
   * @param {() => Promise<void>} told.greet makes a new session what it should be
   * @param {(event: any) => void} told.onEvent
   * @param {(error: VoxsightError, retryMs?: number) => void} told.onLost it broke; it is tried
   *   again in `retryMs`, or not at all
   * @param {() => void} told.onBack it is there again
   */
  constructor({ url, key, reconnect }, told) {
    this._url = endpoint(url);
    this._key = key;
    this._reconnect = reconnect;
    this._told = told;
    /** @type {WebSocket | null} */
    this._socket = null;
    this._failed = 0;
    this._expired = false;
  }

  /** Opens the first session; VoxsightError if that fails, without a second attempt. */
  async open() {
    await this._attempt();
  }

  /** @param {object} event @returns {boolean} whether it could be sent */
  send(event) {
    const socket = this._socket;
    if (socket?.readyState !== WebSocket.OPEN) return false;
    if (socket.bufferedAmount > MOST_WAITING_BYTES) {
      this._drop();
      this._broke(new VoxsightError("slow_connection"));
      return false;
    }
    socket.send(JSON.stringify(event));
    return true;
  }

  /** Ends it for good. */
  close() {
    clearTimeout(this._timer);
    this._closed = true;
    const socket = this._socket;
    this._drop();
    socket?.close(1000);
    this._giveUp?.(new VoxsightError("not_connected"));
  }

  _drop() {
    const socket = this._socket;
    this._socket = null;
    if (!socket) return;
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close();
  }

  async _attempt() {
    const key = typeof this._key === "function" ? await this._key() : (this._key ?? "");
    if (this._closed) throw new VoxsightError("not_connected");
    await this._shakeHands(key);
    await Promise.race([this._told.greet(), this._ended]);
    if (this._closed) throw new VoxsightError("not_connected");
    this._live = performance.now();
  }

  /** Resolves with the server's first event; from then on `_ended` rejects with the session. */
  _shakeHands(key) {
    const names = key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
    const socket = new WebSocket(this._url, names);
    this._socket = socket;
    this._expired = false;
    this._live = null;
    let open = false;
    const slow = setTimeout(() => socket.close(), HANDSHAKE_MS);
    this._ended = new Promise((_, reject) => {
      this._giveUp = reject;
    });
    this._ended.catch(() => {}); // whoever waits for it is told
    const begun = new Promise((resolve) => {
      socket.onopen = () => {
        open = true;
      };
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "error" && event.error.code === "session_expired") this._expired = true;
        this._told.onEvent(event);
        resolve();
      };
    });
    socket.onclose = async (close) => {
      const error = open ? closeError(close, this._expired) : await handshakeError(this._url, key);
      if (this._socket === socket) this._over(error);
    };
    return Promise.race([begun, this._ended]).finally(() => clearTimeout(slow));
  }

  /** The socket closed: an attempt failed, or a session broke. */
  _over(error) {
    const lived = this._live;
    this._drop();
    if (lived === null) this._giveUp(error);
    else this._broke(error);
  }

  _broke(error) {
    if (performance.now() - this._live > LIVED_MS) this._failed = 0;
    this._giveUp(error);
    this._again(error);
  }

  _again(error) {
    const plan = this._reconnect;
    if (error.fatal || !plan || this._failed >= plan.attempts) {
      error.fatal = true;
      this._told.onLost(error);
      return;
    }
    const longest = Math.min(plan.longestMs, plan.firstMs * 2 ** this._failed);
    const wait = Math.round(longest * (0.5 + Math.random() / 2));
    this._failed += 1;
    this._told.onLost(error, wait);
    this._timer = setTimeout(() => this._retry(), wait);
  }

  async _retry() {
    try {
      await this._attempt();
    } catch (error) {
      this._drop();
      if (!this._closed) this._again(asError(error));
      return;
    }
    this._told.onBack();
  }
}

const asError = (error) =>
  error instanceof VoxsightError ? error : new VoxsightError("connection_lost", { cause: error });
