// What a user asked of the bot, until the bot answers or the user is told that it did not.

import { api } from "./api.js";
import { pendingRow } from "./messages.js";
import { openForm } from "./modal.js";

/**
 * Commands, presses and forms under way.
 *
 * `host`: here() -> {user, channel} ids, user(id), bot(), thread, rows (the list of commands
 * without an answer), changed(), complain(sentence).
 */
export class Interactions {
  constructor(host) {
    this.host = host;
    this.rows = new Map(); // interaction id -> row of a command
    this.presses = new Map(); // interaction id -> message id, or null for a form
    this.early = new Map(); // interaction id -> failure or null: known before its own reply came
  }

  /** Forget everything, for another user or channel. */
  clear() {
    this.rows.clear();
    this.presses.clear();
    this.early.clear();
    this.host.rows.replaceChildren();
  }

  get waiting() {
    return this.host.rows.children.length > 0;
  }

  /** Run a command; rejects with a sentence where the server refuses. */
  async command(name, options, files = [], targetId = undefined) {
    const { host } = this;
    const { user, channel } = host.here();
    const body = { name, options, ...(targetId && { target_id: targetId }) };
    const { interaction_id: id } = await api.command(user, channel, body, files);
    if (host.here().user !== user || host.here().channel !== channel) return;
    if (this.early.get(id) === null) return void this.early.delete(id);
    const row = pendingRow(host.user(user), host.bot(), name);
    this.rows.set(id, row);
    host.rows.append(row.node);
    this.replay(id);
    host.changed();
  }

  /** Press a button or make a choice in a menu. */
  async press(message, item, values, node) {
    node.dataset.busy = "";
    node.setAttribute("aria-busy", "true");
    try {
      const body = { custom_id: item.custom_id, ...(values && { values }) };
      const { interaction_id: id } = await api.press(this.host.here().user, message.id, body);
      this.presses.set(id, message.id);
      this.replay(id);
    } catch (error) {
      this.host.thread.find(message.id)?.fail(error.message);
    }
  }

  /** Show the form that answers an interaction. */
  form(event) {
    this.answered(event.interaction_id);
    const { user } = this.host.here();
    openForm(event, this.host.bot(), async (values) => {
      const { interaction_id: id } = await api.submit(user, event.interaction_id, values);
      this.presses.set(id, null);
      this.replay(id);
    });
  }

  replay(id) {
    if (!this.early.has(id)) return;
    const failure = this.early.get(id);
    this.early.delete(id);
    if (failure === null) this.answered(id);
    else this.failed(id, failure);
  }

  /** The bot gave its first response. */
  answered(id) {
    if (this.rows.has(id)) {
      this.rows.get(id).node.remove();
      this.rows.delete(id);
      this.host.changed();
    } else if (this.presses.has(id)) {
      this.host.thread.find(this.presses.get(id))?.idle();
      this.presses.delete(id);
    } else this.early.set(id, null);
  }

  /** The bot gave none in time. */
  failed(id, sentence) {
    if (this.rows.has(id)) {
      this.rows.get(id).fail(sentence);
      this.rows.delete(id);
    } else if (this.presses.has(id)) {
      const view = this.host.thread.find(this.presses.get(id));
      if (view) view.fail(sentence);
      else this.host.complain(sentence);
      this.presses.delete(id);
    } else this.early.set(id, sentence);
  }
}
