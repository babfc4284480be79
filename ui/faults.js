/**
 * What can go wrong between a person and the server, each in one sentence for the person.
 *
 * Codes: insecure_context, unsupported_browser, microphone_refused, microphone_missing,
 * microphone_busy, microphone_lost, camera_refused, camera_missing, camera_busy, camera_lost,
 * sound_blocked, picture_unreadable, server_unreachable, server_full, server_restarting,
 * connection_lost, limit_reached, key_refused, page_refused, session_refused, session_expired, server_failed,
 * slow_connection, event_refused, not_connected.
 */

const SENTENCES = {
  insecure_context:
    "This page was not opened over https or from localhost, so the browser gives it no " +
    "microphone, camera or sound; open it over https.",
  unsupported_browser:
    "This browser cannot process live sound (it has no AudioWorklet); use a current Firefox, " +
    "Chrome, Edge or Safari.",
  microphone_refused:
    "The browser refused the microphone; allow it beside the page's address and try again. You " +
    "can still write.",
  microphone_missing: "No microphone was found; plug one in and try again. You can still write.",
  microphone_busy:
    "The microphone cannot be read, perhaps another program uses it; close that and try again.",
  microphone_lost: "The microphone was unplugged or taken away; choose it again.",
  camera_refused:
    "The browser refused the camera; allow it beside the page's address and try again.",
  camera_missing: "No camera was found; plug one in and try again.",
  camera_busy: "The camera cannot be read, perhaps another program uses it; close that.",
  camera_lost: "The camera was unplugged or taken away; switch it on again.",
  sound_blocked: "The browser keeps the sound off until you click or press a key on this page.",
  picture_unreadable: "This file is no picture that the browser can open; choose a JPEG or PNG.",
  server_unreachable: "The server does not answer; is it running?",
  server_full: "The server is full.",
  server_restarting: "The server is shutting down or starting again.",
  connection_lost: "The connection to the server was lost.",
  limit_reached: "This key has reached its limit; wait a little and try again.",
  key_refused: "The server did not accept the key; check it, or ask its operator for a new one.",
  page_refused: "The server takes no calls from this page; its operator can allow its address.",
  session_refused: "The server refused the session.",
  session_expired: "The session reached its longest duration; a new one goes on from here.",
  server_failed: "The server had a fault and ended the session.",
  slow_connection: "The connection is too slow for live sound; some of what you said was lost.",
  event_refused: "The server refused a request of this page.",
  not_connected: "There is no session; connect first.",
};

/** A problem with a `code` for programs and a sentence for people. */
export class VoxsightError extends Error {
  /**
   * @param {keyof typeof SENTENCES} code
   * @param {{ message?: string, fatal?: boolean, cause?: unknown }} [more] what is known beside
   */
  constructor(code, { message, fatal = false, cause } = {}) {
    super(message || SENTENCES[code], { cause });
    this.name = "VoxsightError";
    this.code = code;
    /** Whether the session is over, and trying again by itself would not help. */
    this.fatal = fatal;
  }
}

const DEVICE_FAULTS = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
};

/**
 * Why `getUserMedia` failed.
 *
 * @param {"microphone" | "camera"} device
 * @param {Error} error
 */
export function deviceError(device, error) {
  const kind = DEVICE_FAULTS[error.name] ?? "busy";
  return new VoxsightError(`${device}_${kind}`, { cause: error });
}

/** Close codes after which the same connection may succeed a little later; 4000 and more are 4000
 *  and the HTTP status that a handshake would have had. */
const PASSING = {
  1001: "server_restarting",
  1006: "connection_lost",
  1012: "server_restarting",
  1013: "server_full",
  4429: "limit_reached",
};
const FINAL = {
  1008: "session_refused",
  1009: "session_refused",
  4400: "session_refused",
  4401: "key_refused",
  4403: "page_refused",
  4404: "session_refused",
};

/**
 * What a close frame means (RFC 6455, and the server's own use of it).
 *
 * @param {{ code: number, reason: string }} close
 * @param {boolean} expired whether the server said before that the session's time was over
 */
export function closeError({ code, reason }, expired = false) {
  if (expired) return new VoxsightError("session_expired", { message: reason });
  if (code in PASSING) return new VoxsightError(PASSING[code], { message: reason });
  return new VoxsightError(FINAL[code] ?? "server_failed", { message: reason, fatal: true });
}

const REFUSALS = { 401: "key_refused", 403: "page_refused", 503: "server_restarting" };

/**
 * Why a handshake failed: a browser is not told, so the server is asked over HTTP.
 *
 * @param {URL} socketUrl the realtime endpoint
 * @param {string} key
 */
export async function handshakeError(socketUrl, key) {
  const base = new URL(socketUrl);
  base.protocol = base.protocol === "wss:" ? "https:" : "http:";
  // A client secret opens nothing but a session, and is used up; it cannot be asked about.
  const headers = key && !key.startsWith("ek_") ? { Authorization: `Bearer ${key}` } : {};
  const ask = async (path, options) => {
    const answer = await fetch(new URL(path, base), { cache: "no-store", ...options });
    const body = await answer.json().catch(() => ({}));
    return { status: answer.status, message: body.error?.message };
  };
  try {
    let { status, message } = await ask("/readyz", {});
    if (status === 200) ({ status, message } = await ask("/v1/models", { headers }));
    if (status === 200 || !(status in REFUSALS)) return new VoxsightError("connection_lost");
    return new VoxsightError(REFUSALS[status], { message, fatal: status !== 503 });
  } catch (cause) {
    // Of a server that takes no calls from this page an answer comes that cannot be read.
    const there = await fetch(new URL("/readyz", base), { mode: "no-cors" }).catch(() => null);
    return new VoxsightError(there ? "page_refused" : "server_unreachable", { cause, fatal: !!there });
  }
}
