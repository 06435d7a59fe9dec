// The list of messages: order, grouping, day lines, and staying at the bottom.

import { h, byId } from "./dom.js";
import { MessageView, continues, interactionOf } from "./messages.js";
import { day, differentDay } from "./time.js";

const NEAR_BOTTOM_PX = 60;

/** The scrolling conversation of one channel. */
export class Thread {
  constructor({ scroller, list, jump }, context) {
    Object.assign(this, { scroller, list, pending, jump, context });
    this.views = [];
    this.stuck = true;
    this.last = 0;
    this.firsts = new Map(); // interaction id -> id of the first message that answers it
    scroller.addEventListener("scroll", () => {
      // Growing content also leaves the end behind; only a move upwards is the reader's wish.
      const up = scroller.scrollTop < this.last;
      this.last = scroller.scrollTop;
      if (scroller.scrollHeight - this.last - scroller.clientHeight < NEAR_BOTTOM_PX) {
        this.stuck = true;
        jump.hidden = true;
      } else if (up) this.stuck = false;
    }, { passive: true });
    jump.addEventListener("click", () => this.toBottom());
    const follow = new ResizeObserver(() => this.stuck && this.toBottom());
    follow.observe(scroller);
    follow.observe(scroller.firstElementChild);
  }

  toBottom() {
    this.stuck = true;
    this.jump.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  find(id) {
    return this.views.find((view) => view.message.id === id);
  }

  note(messages) {
    for (const message of messages) {
      const key = interactionOf(message);
      if (key === null) continue;
      const first = this.firsts.get(key);
      if (first === undefined || byId(message.id, first) < 0) this.firsts.set(key, message.id);
    }
  }

  /** Say whether an interaction had an earlier answer. */
  isFollowUp(message) {
    const key = interactionOf(message);
    return key !== null && this.firsts.get(key) !== message.id;
  }

  /** Show these messages, oldest first, and nothing else. */
  fill(messages) {
    this.firsts.clear();
    this.note(messages);
    this.views = messages.map((message) => new MessageView(message, this.context));
    this.arrange();
    this.toBottom();
  }

  /** Put older messages before the others without moving what is read. */
  prepend(messages) {
    const fromBottom = this.scroller.scrollHeight - this.scroller.scrollTop;
    const known = new Set(this.views.map((view) => view.message.id));
    const older = messages.filter((message) => !known.has(message.id));
    this.note(older);
    this.views.unshift(...older.map((message) => new MessageView(message, this.context)));
    this.arrange();
    this.scroller.scrollTop = this.scroller.scrollHeight - fromBottom;
  }

  /** Add a message or draw its new form; returns whether it is new. */
  put(message) {
    const known = this.find(message.id);
    if (known) {
      known.update(message);
      return false;
    }
    this.note([message]);
    const at = this.views.findLastIndex((view) => byId(view.message.id, message.id) < 0) + 1;
    this.views.splice(at, 0, new MessageView(message, this.context));
    this.arrange(at);
    if (!this.stuck) this.jump.hidden = false;
    return true;
  }

  remove(id) {
    const at = this.views.findIndex((view) => view.message.id === id);
    if (at < 0) return;
    this.views[at].node.remove();
    this.views.splice(at, 1);
    this.arrange(at);
  }

  arrange(from = 0) {
    if (from === 0) this.list.replaceChildren();
    this.views.slice(from).forEach((view, offset) => {
      const before = this.views[from + offset - 1]?.message;
      const newDay = !before || differentDay(before.timestamp, view.message.timestamp);
      view.line?.remove();
      view.line = newDay ? h("li.day", { role: "separator" }, h("span", null, day(view.message.timestamp))) : null;
      view.node.classList.toggle("continues", !newDay && continues(view.message, before, this.context));
      // Moving a node loses its focus and restarts its animations: only put what is not in place.
      const previous = this.views[from + offset - 1]?.node ?? null;
      const first = view.line ?? view.node;
      const place = previous ? previous.nextSibling : this.list.firstChild;
      if (view.line) this.list.insertBefore(view.line, place);
      if (!view.node.isConnected) this.list.insertBefore(view.node, first === view.line ? view.line.nextSibling : place);
    });
  }
}
