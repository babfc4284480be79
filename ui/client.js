/**
 * Talk to a Voxsight server from a browser: microphone and camera in, the answer's voice out.
 *
 *     import { VoxsightClient } from "./client.js";
 *     const client = new VoxsightClient({ session: { instructions: "Be brief." } });
 *     client.addEventListener("transcript", ({ detail }) => show(detail.text));
 *     button.onclick = () => client.connect();
 *
 * An ES module without dependencies; it loads the modules beside it (README.md lists them). `connect` belongs into a click or a key press, or
 * the browser keeps the sound off.
 *
 * ## Options (all may be left out)
 *   url          where /v1/realtime is; default: the page's own host
 *   key          a key (vx-...) or client secret (ek_...), or a function that gives one (also a
 *                promise); a function is asked again for every connection
 *   session      the `session` of `session.update`, merged over { type: "realtime",
 *                audio: { input: { transcription: {} } } }
 *   microphone   true (default), false, or the constraints of a device
 *   pushToTalk   false (default: the server finds the turns) or true
 *   reconnect    { attempts: 8, firstMs: 500, longestMs: 15000 }, or false
 *   camera       { everyMs: 700, longestSide: 640, quality: 0.75 }
 *   items        a conversation to go on with, as `conversation.items` gave it
 *
 * ## Methods
 *   connect()                  opens sound, microphone and session; resolves when it is live
 *   close()                    ends it and releases everything; may connect again
 *   openMicrophone(constraints?)  tries the microphone (again), or another one
 *   mute(on)                   silence is sent instead of the microphone
 *   setPushToTalk(on)          turns by a key instead of by silence
 *   pushToTalk(down)           the key: while down you are heard, and on its release answered
 *   interrupt()                stop speaking; what was not heard leaves the conversation
 *   sendText(text, { respond })         a message in writing, answered unless respond is false
 *   sendImage(blobOrUrl, { text, respond })  a picture (file, Blob, data: URL), answered if there
 *                              is a text or respond is true
 *   cameraOn({ deviceId, facing }?)     the camera shows what the talk is about
 *   cameraSwitch(deviceId?)    the next camera, or the one named
 *   cameraOff()
 *   cameras()                  [{ deviceId, label }]
 *   updateSession(changes)     resolves with the session that is in force, or rejects
 *   clear()                    forgets the conversation, here and in the session
 *   retrieve(itemId)           an item with its sound (base64) as far as it was heard
 *   send(event)                any event of the protocol
 *   setVolume(0..1)
 *
 * ## Properties
 *   state         "idle" | "connecting" | "live" | "reconnecting" | "closed"
 *   activity      "" | "listening" | "hearing" | "thinking" | "speaking"
 *   muted, talking, hasMicrophone, cameraStream (MediaStream for a preview, or null)
 *   session       the session object of the server
 *   conversation  .items: [{ id, role, type, text, heard, status, images, ... }], in order
 *   audioContext, output   AudioNode that carries what is heard, to draw or record it
 *   turns         what the last 50 turns took, as in the event `timing`
 *
 * ## Events (CustomEvent; `detail` is)
 *   state       { state, activity }        whenever one of them changes
 *   problem     { code, message, fatal, retryMs? }  a sentence for people; see faults.js for codes
 *   session     the session in force
 *   item        { item, gone }             an item came, changed or went
 *   transcript  { itemId, text, tentative, final }   the user's words; `text` is sure, what comes
 *               after it is not. While the key of push-to-talk is held all are tentative
 *   answer      { itemId, text, final }    the assistant's words as they are written
 *   word        { itemId, index, start, end }  the word being spoken: characters of the text;
 *               index -1 when nothing is spoken
 *   heard       { itemId, text, interrupted }  an answer was heard to its end, or cut to this
 *   level       { direction: "in" | "out", rms }   0..1, some 15 times a second
 *   playback    { itemId, playedMs, state: "began" | "playing" | "ended" | "stopped" }
 *   seen        { sightings: [{ name, probability }], recognised }   what a camera frame showed
 *   camera      { stream }                 the preview's stream; null when it is off
 *   timing      { itemId, responseId, source: "speech" | "text", marks: { turnEnded, transcribed,
 *               responseCreated, firstText, firstSound, firstPlayed, done } }  ms since the end of
 *               speech (or since the text was sent), as each of them is known
 *   event       every event of the server, as it came
 */

import { Camera, pictureUrl } from "./camera.js";
import { Conversation } from "./conversation.js";
import { Dialogue } from "./dialogue.js";
import { VoxsightError } from "./faults.js";
import { Link } from "./link.js";
import { RATE, Sound, toBase64 } from "./sound.js";

const RECONNECT = { attempts: 8, firstMs: 500, longestMs: 15000 };
/** Sound that is still on its way from the microphone when the key of push-to-talk is let go. */
const TAIL_MS = 150;
/** Less cannot be committed. */
const LEAST_TALK_SAMPLES = RATE / 5;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @returns {any} `base` with the fields of `more`; objects within are merged */
function merged(base, more) {
  const both = { ...base };
  for (const [key, value] of Object.entries(more ?? {})) {
    both[key] = isObject(value) && isObject(both[key]) ? merged(both[key], value) : value;
  }
  return both;
}

/** A session that finds turns in another way. */
const detecting = (detection) => ({
  type: "realtime",
  audio: { input: { turn_detection: detection } },
});

/** See the top of this file. */
export class VoxsightClient extends EventTarget {
  /** @param {object} [options] see the top of this file */
  constructor({ url, key, session, microphone = true, pushToTalk = false, ...more } = {}) {
    super();
    const { reconnect = RECONNECT, camera, items } = more;
    this._address = { url, key, reconnect: reconnect && { ...RECONNECT, ...reconnect } };
    this._wishes = merged({ type: "realtime", audio: { input: { transcription: {} } } }, session);
    this._microphone = microphone;
    this._byKey = pushToTalk;
    this.state = "idle";
    this.activity = "";
    this.muted = false;
    this.talking = false;
    this.conversation = new Conversation(items);
    const tell = (type, detail) => this._tell(type, detail);
    const problem = (error) => this._problem(error);
    this._sound = new Sound(
      (pcm, rms) => this._piece(pcm, rms),
      (report) => {
        this._dialogue.report(report);
        this._tellState();
      },
      problem,
    );
    const send = (event) => this._link?.send(event) ?? false;
    const { conversation, _sound: sound } = this;
    this._dialogue = new Dialogue({ conversation, sound, send, tell, problem });
    this._camera = new Camera(
      (image) => this._show(image),
      (stream) => tell("camera", { stream }),
      problem,
      camera,
    );
  }

  get hasMicrophone() {
    return this._sound.stream !== null;
  }

  get cameraStream() {
    return this._camera.stream;
  }

  get audioContext() {
    return this._sound.context;
  }

  get output() {
    return this._sound.output ?? null;
  }

  get session() {
    return this._dialogue.session;
  }

  get turns() {
    return this._dialogue.clock.turns;
  }

  // Coming and going

  /** Opens sound, microphone and session. Rejects with VoxsightError after telling `problem`. */
  async connect() {
    if (this.state !== "idle" && this.state !== "closed") return;
    this._become("connecting");
    const link = new Link(this._address, {
      greet: () => this._greet(),
      onEvent: (event) => this._follow(event),
      onLost: (error, retryMs) => this._lost(error, retryMs),
      onBack: () => this._become("live"),
    });
    this._link = link;
    try {
      await this._sound.open();
      if (!(await this._sound.unlocked())) this._problem(new VoxsightError("sound_blocked"));
      if (this._microphone) await this.openMicrophone().catch(() => {}); // told as a problem
      await link.open();
    } catch (cause) {
      const known = cause instanceof VoxsightError;
      const error = known ? cause : new VoxsightError("connection_lost", { cause });
      error.fatal = true;
      if (this._link === link) {
        this._problem(error); // else it was closed by the page itself
        await this.close();
      }
      throw error;
    }
    this._become("live");
  }

  /** Ends the session and releases microphone, camera and sound. */
  async close() {
    const link = this._link;
    this._link = null;
    link?.close();
    this._camera.off();
    this.talking = false;
    if (this.state !== "idle") this._become("closed");
    await this._dialogue.broke(new VoxsightError("not_connected"));
    if (this._link === null) await this._sound.close();
  }

  /** @param {MediaTrackConstraints} [constraints] */
  async openMicrophone(constraints) {
    const wanted = constraints ?? (isObject(this._microphone) ? this._microphone : {});
    await this._orTell(this._sound.openMicrophone(wanted));
    if (constraints) this._microphone = constraints;
  }

  async _greet() {
    await this._settled;
    const { conversation, asking } = this._dialogue;
    const session = this._byKey ? merged(this._wishes, detecting(null)) : this._wishes;
    await asking.ask({ type: "session.update", session }, "session.updated");
    for (const event of conversation.asEvents()) this._link?.send(event);
  }

  _lost(error, retryMs) {
    this._problem(error, retryMs);
    this.talking = false;
    if (retryMs === undefined) {
      this.close();
      return;
    }
    this._settled = this._dialogue.broke(error);
    this._become("reconnecting");
  }

  // What the page asks for

  /** @param {boolean} on */
  mute(on) {
    this.muted = on;
    this._tellState();
  }

  /** @param {number} volume 0..1 */
  setVolume(volume) {
    if (this.output) this.output.gain.value = volume;
  }

  /** @param {boolean} on */
  async setPushToTalk(on) {
    if (on === this._byKey) return;
    this._byKey = on;
    this.talking = false;
    if (this.state !== "live") return;
    const own = this._wishes.audio.input.turn_detection ?? this._dialogue.detection;
    await this._update(detecting(on ? null : own));
  }

  /** @param {boolean} down */
  async pushToTalk(down) {
    if (!this._byKey || down === this._down) return;
    this._requireLive();
    this._down = down;
    if (!down) {
      await this._talkedByKey(performance.now());
    } else if (!this.talking) {
      this.talking = true;
      this._talked = 0;
      this.send({ type: "input_audio_buffer.clear" });
      this._tellState();
      await this._dialogue.interrupt();
    }
  }

  /** The key was let go at `since`. */
  async _talkedByKey(since) {
    await pause(TAIL_MS);
    if (this._down || !this.talking) return; // pressed again: the same turn goes on
    this.talking = false;
    if (this._talked < LEAST_TALK_SAMPLES) {
      this.send({ type: "input_audio_buffer.clear" });
    } else {
      this.send({ type: "input_audio_buffer.commit" });
      this._dialogue.answer(null, since);
    }
    this._tellState();
  }

  /** Stops the answer; the conversation keeps what was heard of it. */
  async interrupt() {
    await this._dialogue.interrupt();
    this._tellState();
  }

  /** @param {string} text @param {{ respond?: boolean }} [how] @returns {Promise<string>} item */
  sendText(text, { respond = true } = {}) {
    return this._say([{ type: "input_text", text }], respond);
  }

  /**
   * @param {Blob | string} picture
   * @param {{ text?: string, respond?: boolean }} [how]
   * @returns {Promise<string>} the item's id
   */
  async sendImage(picture, { text = "", respond = text !== "" } = {}) {
    const url = await this._orTell(pictureUrl(picture));
    const content = [{ type: "input_image", image_url: url }];
    if (text) content.push({ type: "input_text", text });
    return this._say(content, respond);
  }

  /** @param {{ deviceId?: string, facing?: "user" | "environment" }} [which] */
  cameraOn(which) {
    return this._orTell(this._camera.on(which));
  }

  /** @param {string} [deviceId] */
  cameraSwitch(deviceId) {
    return this._orTell(this._camera.switch(deviceId));
  }

  cameraOff() {
    this._camera.off();
  }

  cameras() {
    return this._camera.list();
  }

  /** @param {object} changes fields of the session @returns {Promise<any>} the session in force */
  async updateSession(changes) {
    this._wishes = merged(this._wishes, changes);
    if (this.state !== "live") return this._wishes;
    return this._update(merged({ type: "realtime" }, changes));
  }

  /** Forgets the conversation; without it, a new session goes on where the last one ended. */
  async clear() {
    const live = this.state === "live";
    if (live) await this._dialogue.interrupt();
    for (const item of [...this.conversation.items]) {
      if (live) this.send({ type: "conversation.item.delete", item_id: item.id });
      else for (const change of this.conversation.remove(item.id)) this._tell("item", change);
    }
  }

  /** @param {string} itemId @returns {Promise<any>} the item, with its sound */
  retrieve(itemId) {
    return this._dialogue.retrieve(itemId);
  }

  /** @param {object} event of the protocol */
  send(event) {
    this._requireLive();
    this._link.send(event);
  }

  // What goes between

  _requireLive() {
    if (this.state !== "live") throw new VoxsightError("not_connected");
  }

  async _update(session) {
    const event = { type: "session.update", session };
    return (await this._dialogue.asking.ask(event, "session.updated")).session;
  }

  async _say(content, respond) {
    this._requireLive();
    const id = await this._dialogue.say(content, respond);
    this._tellState();
    return id;
  }

  _piece(pcm, rms) {
    const level = this.muted ? 0 : rms;
    this._tell("level", { direction: "in", rms: level });
    if (this.state !== "live" || (this._byKey && !this.talking)) return;
    if (this.muted) pcm.fill(0); // the server's time goes on, and ends the turn
    this._link.send({ type: "input_audio_buffer.append", audio: toBase64(pcm.buffer) });
    this._talked += pcm.length;
    this._dialogue.clock.piece(pcm.length, level);
  }

  _show(image) {
    if (this.state === "live") this._link.send({ type: "voxsight.camera.frame", image });
  }

  _follow(event) {
    if (event.type === "session.created") this._dialogue.reset();
    this._tell("event", event);
    this._dialogue.follow(event);
    this._tellState();
  }

  // Telling

  _tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  _problem({ code, message, fatal }, retryMs) {
    this._tell("problem", { code, message, fatal, ...(retryMs !== undefined && { retryMs }) });
  }

  /** The result of `work`; what it fails with is told, too. */
  async _orTell(work) {
    try {
      return await work;
    } catch (error) {
      this._problem(error);
      throw error;
    }
  }

  _become(state) {
    this.state = state;
    this._tellState();
  }

  _tellState() {
    const doing = this.talking ? "hearing" : this._dialogue.activity;
    this.activity = this.state === "live" ? doing : "";
    const told = `${this.state} ${this.activity} ${this.muted} ${this.talking}`;
    if (told === this._told) return;
    this._told = told;
    this._tell("state", { state: this.state, activity: this.activity });
  }
}
