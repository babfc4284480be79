/** Events that are answered by others: who asked what, and what was refused. */

import { VoxsightError } from "./faults.js";

/** @param {string} kind @returns {string} as the protocol's ids are */
export const newId = (kind) => `${kind}_${crypto.randomUUID().replaceAll("-", "")}`;

/** The open questions of one session. */
export class Asking {
  /** @param {(event: object) => boolean} send whether it could be sent */
  constructor(send) {
    this._send = send;
    /** @type {any[]} */
    this._open = [];
    /** Events whose refusal does not matter. @type {Set<string>} */
    this._quiet = new Set();
  }

  /**
   * Sends an event and waits for the one that answers it.
   *
   * @param {object} event @param {string} type of the answer @param {string} [itemId] of its item
   * @returns {Promise<any>} the answer; VoxsightError if it was refused, or the session broke
   */
  ask(event, type, itemId) {
    const id = newId("ask");
    return new Promise((resolve, reject) => {
      this._open.push({ id, type, itemId, resolve, reject });
      if (this._send({ ...event, event_id: id })) return;
      this._open = this._open.filter((each) => each.id !== id);
      reject(new VoxsightError("not_connected"));
    });
  }

  /** Sends what may come too late: then it is refused, and that is right. @param {object} event */
  quietly(event) {
    const id = newId("late");
    this._quiet.add(id);
    this._send({ ...event, event_id: id });
  }

  /**
   * Follows one server event.
   *
   * @param {any} event @returns {boolean} whether somebody waited for it
   */
  follow(event) {
    const refused = event.type === "error" ? event.error.event_id : null;
    if (refused && this._quiet.delete(refused)) return true;
    const asked = this._open.find(({ id, type, itemId }) =>
      refused ? id === refused : type === event.type && (!itemId || itemId === event.item?.id),
    );
    if (!asked) return false;
    this._open.splice(this._open.indexOf(asked), 1);
    if (refused) asked.reject(new VoxsightError("event_refused", { message: event.error.message }));
    else asked.resolve(event);
    return true;
  }

  /** The session is over. @param {VoxsightError} error */
  fail(error) {
    const open = this._open;
    this._open = [];
    this._quiet.clear();
    for (const { reject } of open) reject(error);
  }
}
