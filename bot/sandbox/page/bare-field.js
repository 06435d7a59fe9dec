// What is typed into a command of whose options none is open: it looks for an option.

import { h, icon } from "./dom.js";
import { marks } from "./commands.js";

/**
 * A field after a command's name. `form` is the CommandForm: its `rest` are the options to look
 * among, `add` and `enter` open one, `host` sends and leaves.
 */
export class BareField {
  constructor(form) {
    this.form = form;
    this.input = h("textarea", {
      id: "bare", rows: "1", spellcheck: "false", role: "combobox", "aria-expanded": "false",
      "aria-label": `Options of /${form.leaf.label}`,
      oninput: () => this.typed(), onfocus: () => this.offer(),
      onkeydown: (event) => this.key(event),
    });
    this.grow = h("span.grow", { dataset: { value: "" } }, this.input);
    this.problem = h("span.chip-problem", { role: "alert" });
    this.node = h("span.bare", null, this.grow, this.problem);
  }

  get text() {
    return this.input.value.trim();
  }

  focus() {
    this.input.focus();
    this.offer();
  }

  fitting() {
    const text = this.text.toLowerCase();
    const names = (option) => [option.label, option.name].map((name) => name.toLowerCase());
    return this.form.rest.filter((option) => names(option).some((name) => name.startsWith(text)));
  }

  typed() {
    const text = this.input.value.replace(/\s*\n\s*/g, " ");
    this.input.value = text;
    this.grow.dataset.value = text;
    this.complain("");
    // "seed:", and "seed" with a space, open the option of that name.
    const [mark] = marks(text, this.form.rest);
    const named = text.endsWith(" ") && this.fitting().find((o) => [o.name, o.label].includes(this.text));
    if (mark?.start === 0) this.open(mark.option, text.slice(mark.end).trim());
    else if (named) this.open(named);
    else this.offer();
  }

  open(option, text = "") {
    this.form.enter(this.form.add(option, text));
  }

  offer() {
    const { leaf, host } = this.form;
    const found = this.fitting();
    host.panel.show(this.input, {
      title: found.length || !this.text ? `/${leaf.label}` : "No such option",
      about: leaf.description,
      active: this.text ? 0 : -1,
      chips: true,
      items: found.map((option) => ({
        label: option.label, icon: icon("plus"), pick: () => this.open(option),
      })),
    });
  }

  complain(sentence) {
    this.problem.textContent = sentence;
    this.node.classList.toggle("wrong", Boolean(sentence));
    this.input.setAttribute("aria-invalid", String(Boolean(sentence)));
  }

  key(event) {
    const { host, leaf } = this.form;
    if (event.isComposing || host.panel.key(event)) return;
    if (event.key === "Enter") host.send();
    else if (event.key === "Escape") host.leave("");
    else if (event.key === "Backspace" && !this.input.value) host.leave(`/${leaf.label}`);
    else return;
    event.preventDefault();
  }
}
