/** The server's HTTP interface, as the page uses it. */

import { make } from "./dom.js";

const KEY = "voxsight.key";

/** A refusal of the server, in its own words. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The key that the person gave for this tab of the browser; none is needed on one's own machine. */
export function key() {
  return sessionStorage.getItem(KEY) ?? undefined;
}

function headers(more = {}) {
  return key() ? { ...more, Authorization: `Bearer ${key()}` } : more;
}

/** Asks the person for a key; resolves when one was given, rejects when none was. */
export function askForKey(message) {
  return new Promise((resolve, reject) => {
    const field = make("input", { type: "password", id: "vs-key", autocomplete: "off", required: true });
    const form = make("form", { method: "dialog" },
      make("h2", {}, "This server needs a key"),
      make("p", {}, message),
      make("label", { for: "vs-key" }, "Key"), field,
      make("div", { class: "vs-controls" }, make("button", { class: "vs-button vs-primary" }, "Use it")));
    const dialog = make("dialog", { class: "vs-dialog", "aria-label": "Key" }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (!field.value) return reject(new Refusal(401, message));
      sessionStorage.setItem(KEY, field.value.trim());
      return resolve();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

async function refusal(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not from the server itself: a proxy's page has no sentence for us.
  }
  return new Refusal(response.status, message);
}

async function reached(asking) {
  try {
    return await asking;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server cannot be reached; is it still running?");
  }
}

/** JSON of a resource. */
export async function read(path) {
  const response = await reached(fetch(path, { headers: headers() }));
  if (response.ok) return response.json();
  throw await refusal(response);
}

/** A stream of bytes: an async iterator of Uint8Array. */
export async function* stream(path, body, signal) {
  const options = { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body), signal };
  const response = await reached(fetch(path, options));
  if (!response.ok) throw await refusal(response);
  const reader = response.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
}

/** Reads server-sent events out of a text that grows. */
class Events {
  /** @param {(event: any) => void} told */
  constructor(told) {
    this.told = told;
    this.at = 0;
    this.failed = null;
  }

  /** @param {string} text all that came until now */
  take(text) {
    for (let end = text.indexOf("\n\n", this.at); end >= 0; end = text.indexOf("\n\n", this.at)) {
      const line = text.slice(this.at, end);
      this.at = end + 2;
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const data = JSON.parse(line.slice(6));
      if (data.error?.type) this.failed = new Refusal(500, data.error.message);
      else this.told(data);
    }
  }

  /** All has come; throws the refusal if one was among it. */
  end(text) {
    this.take(text);
    if (this.failed) throw this.failed;
  }
}

/**
 * Posts and gives the text of the answer.
 *
 * XMLHttpRequest, because fetch does not tell how much of an upload has gone out.
 */
function posted(path, body, { upload, come, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const fine = () => request.status >= 200 && request.status < 300;
    const form = body instanceof FormData;
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers(form ? {} : { "Content-Type": "application/json" }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = ({ loaded, total }) => upload?.(total ? loaded / total : 0);
    request.onprogress = () => fine() && come?.(request.responseText);
    request.onerror = () => reject(new Refusal(0, "The connection to the server broke off; try again."));
    request.onabort = () => reject(new DOMException("Cancelled.", "AbortError"));
    request.onload = () => {
      if (fine()) resolve(request.responseText);
      else refusal(new Response(request.responseText, { status: request.status })).then(reject);
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(form ? body : JSON.stringify(body));
  });
}

/**
 * Posts and reads the answer's events as they come.
 *
 * @param {string} path
 * @param {FormData | object} body
 * @param {{ event: (event: any) => void, upload?: (share: number) => void, signal?: AbortSignal }} told
 */
export async function events(path, body, { event, upload, signal }) {
  const told = new Events(event);
  told.end(await posted(path, body, { upload, signal, come: (text) => told.take(text) }));
}

/** Posts a form; the JSON of the answer. */
export async function send(path, form, { upload, signal }) {
  return JSON.parse(await posted(path, form, { upload, signal }));
}

/** Reads the events of a resource until they end. */
export async function follow(path, { event, signal }) {
  const response = await reached(fetch(path, { headers: headers(), signal }));
  if (!response.ok) throw await refusal(response);
  const told = new Events(event);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let piece = await reached(reader.read()); !piece.done; piece = await reached(reader.read())) {
    text += piece.value;
    told.take(text);
  }
  told.end(text);
}

/** Removes a resource. */
export async function remove(path) {
  const response = await reached(fetch(path, { method: "DELETE", headers: headers() }));
  if (!response.ok) throw await refusal(response);
}

/** An address of a resource for an element of the page, which cannot show a key. */
export async function address(path) {
  if (!key()) return path;
  const response = await reached(fetch(path, { headers: headers() }));
  if (!response.ok) throw await refusal(response);
  return URL.createObjectURL(await response.blob());
}

/** What the server has loaded, shared by the tabs: the value, and who wants to hear of a new one. */
export class Loaded extends EventTarget {
  /** @type {any} */
  value = null;

  /** Ask again, until the server is ready; a person is asked for a key if one is needed. */
  async refresh() {
    for (;;) {
      try {
        this.value = await read("/v1/voxsight/models");
        this.dispatchEvent(new Event("change"));
        return;
      } catch (error) {
        this.dispatchEvent(new CustomEvent("problem", { detail: error }));
        if (error.status === 401) await askForKey(error.message);
        else await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  }

  /** Change models; `told` gets each step. */
  async exchange(chosen, told) {
    await events("/v1/voxsight/models", chosen, { event: told });
    await this.refresh();
  }
}
