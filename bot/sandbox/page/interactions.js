// What a user asked of the bot, until the bot answers or the user is told that it did not.

import { api } from "./api.js";
import { pendingRow } from "./messages.js";
import { openForm } from "./modal.js";

/**
 * Commands, presses and forms under way.
 *
 * `host`: here() -> {user, channel} ids, user(id), bot(), thread, rows (the list of commands
 * without an answer), complain(sentence).
 */
export class Interactions {
  constructor(host) {
    this.host = host;
    this.rows = new Map(); // interaction id -> row of a command
    this.presses = new Map(); // interaction id -> message id, or null for a form
    // What was heard of an interaction before the reply that told its id: id -> what to do. What
    // another window of this user did stays there.
    this.early = new Map();
  }

  /** Forget everything, for another user or channel. */
  clear() {
    this.rows.clear();
    this.presses.clear();
    this.early.clear();
    this.host.rows.replaceChildren();
  }

  /** Run a command; rejects with a sentence where the server refuses. */
  async command(name, options, files = [], targetId = undefined) {
    const { host } = this;
    const { user, channel } = host.here();
    const body = { name, options, ...(targetId && { target_id: targetId }) };
    const { interaction_id: id } = await api.command(user, channel, body, files);
    if (host.here().user !== user || host.here().channel !== channel) return;
    const row = pendingRow(host.user(user), host.bot(), name);
    this.rows.set(id, row);
    host.rows.append(row.node);
    this.replay(id);
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

  // Act on news of an interaction of this window, now or as soon as its id is known.
  when(id, act) {
    if (this.rows.has(id) || this.presses.has(id)) act();
    else this.early.set(id, act);
  }

  replay(id) {
    const act = this.early.get(id);
    this.early.delete(id);
    act?.();
  }

  /** Show the form that answers an interaction. */
  form(event) {
    this.when(event.interaction_id, () => {
      this.answered(event.interaction_id);
      const { user } = this.host.here();
      openForm(event, this.host.bot(), async (values, files) => {
        const { interaction_id: id } = await api.submit(user, event.interaction_id, values, files);
        this.presses.set(id, null);
        this.replay(id);
      });
    });
  }

  /** The bot gave its first response. */
  answered(id) {
    this.when(id, () => {
      this.rows.get(id)?.node.remove();
      this.host.thread.find(this.presses.get(id))?.idle();
      this.drop(id);
    });
  }

  /** The bot gave none in time. */
  failed(id, sentence) {
    this.when(id, () => {
      const place = this.rows.get(id) ?? this.host.thread.find(this.presses.get(id));
      if (place) place.fail(sentence);
      else this.host.complain(sentence);
      this.drop(id);
    });
  }

  drop(id) {
    this.rows.delete(id);
    this.presses.delete(id);
  }
}
