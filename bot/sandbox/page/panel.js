// The list above the message box: commands, an option's choices, further options.

import { h } from "./dom.js";

/** A listbox steered from an input elsewhere through aria-activedescendant. */
export class Panel {
  constructor() {
    this.node = h("div.panel", { hidden: true });
    this.items = [];
    this.active = -1;
    this.input = null;
  }

  get open() {
    return !this.node.hidden;
  }

  /** Show items {label, detail, badge, icon, pick()} for an input; `active` is chosen by Enter. */
  show(input, { title, about, items, active = -1, chips = false }) {
    if (!items.length && !title) return this.hide();
    this.release();
    this.input = input;
    this.items = items;
    this.nodes = items.map((item, at) =>
      h(
        "div.panel-item",
        {
          id: `panel-item-${at}`,
          role: "option",
          "aria-selected": "false",
          // The input keeps the focus, so that typing goes on.
          onpointerdown: (event) => event.preventDefault(),
          onclick: () => item.pick(),
          onpointermove: () => !chips && this.activate(at, false),
        },
        item.icon ?? null,
        h("span.panel-label", null, item.label),
        item.detail && h("span.panel-detail", null, item.detail),
        item.badge && h("span.panel-badge", null, item.badge),
      ),
    );
    this.node.replaceChildren(
      ...(title ? [h("div.panel-head", null, h("b", null, title), about && h("span", null, about))] : []),
      ...(items.length ? [h(`div.panel-list${chips ? ".chips" : ""}`, { role: "listbox", id: "panel-list", "aria-label": title ?? "Choices" }, this.nodes)] : []),
    );
    this.node.hidden = false;
    input.setAttribute("aria-expanded", String(items.length > 0));
    if (items.length) input.setAttribute("aria-controls", "panel-list");
    this.activate(Math.min(active, items.length - 1));
    return undefined;
  }

  release() {
    this.input?.setAttribute("aria-expanded", "false");
    this.input?.removeAttribute("aria-activedescendant");
    this.input?.removeAttribute("aria-controls");
  }

  hide() {
    this.release();
    this.node.hidden = true;
    this.node.replaceChildren();
    this.items = [];
    this.active = -1;
  }

  activate(at, scroll = true) {
    this.nodes[this.active]?.setAttribute("aria-selected", "false");
    this.active = at;
    const node = this.nodes[at];
    if (!node) return this.input?.removeAttribute("aria-activedescendant");
    node.setAttribute("aria-selected", "true");
    this.input?.setAttribute("aria-activedescendant", node.id);
    if (scroll) node.scrollIntoView({ block: "nearest" });
    return undefined;
  }

  /** Handle an arrow key, Enter or Tab; returns whether it was used. */
  key(event) {
    if (!this.open || !this.items.length || event.isComposing) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      const count = this.items.length;
      const from = this.active < 0 && step < 0 ? 0 : this.active;
      this.activate((from + step + count) % count);
    } else if ((event.key === "Enter" || event.key === "Tab") && !event.shiftKey && this.active >= 0) {
      this.items[this.active].pick();
    } else return false;
    event.preventDefault();
    return true;
  }
}
