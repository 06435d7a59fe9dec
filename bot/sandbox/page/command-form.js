// A slash command being filled in: one chip an option.

import { h, icon } from "./dom.js";
import { BareField } from "./bare-field.js";
import { TYPE, marks, valueOf } from "./commands.js";

const AUTOCOMPLETE_WAIT_MS = 180;
const MOST_CHOICES = 25;

/** The row of chips. `host` has users(), channels(), roles(), complete(), send(), leave(text), panel. */
export class CommandForm {
  constructor(leaf, values, host) {
    this.leaf = leaf;
    this.host = host;
    this.entries = [];
    this.bare = null;
    this.row = h("div.chips");
    this.node = h(
      "div.command",
      { role: "group", "aria-label": `Command ${leaf.path}: ${leaf.description}` },
      h("span.command-name", { title: leaf.description }, `/${leaf.label}`),
      this.row,
    );
    for (const option of leaf.options) {
      if (option.required || option.name in values) this.add(option, values[option.name] ?? "");
    }
  }

  get takesFiles() {
    return this.leaf.options.some((option) => option.type === TYPE.ATTACHMENT);
  }

  get rest() {
    return this.leaf.options.filter((option) => !this.entries.some((e) => e.option === option));
  }

  entry(name) {
    return this.entries.find((entry) => entry.option.name === name);
  }

  /** Put the cursor where something is missing, else at the end. */
  focus() {
    const target = this.entries.find((e) => !e.input.value && !e.file) ?? this.entries.at(-1);
    if (target) return this.enter(target);
    if (!this.bare) {
      this.bare = new BareField(this);
      this.row.append(this.bare.node);
    }
    return this.bare.focus();
  }

  enter(entry) {
    entry.input.focus();
    entry.input.setSelectionRange?.(entry.input.value.length, entry.input.value.length);
    this.suggest(entry);
  }

  add(option, text = "") {
    const entry = { option, text, value: undefined, file: null };
    const attachment = option.type === TYPE.ATTACHMENT;
    const id = `option-${option.name}`;
    entry.problem = h("span.chip-problem", { role: "alert" });
    entry.input = attachment ? this.fileInput(entry, id) : this.textInput(entry, id, text);
    entry.node = h(
      "span.chip",
      { title: option.about },
      h("label", { for: id }, option.label),
      attachment ? entry.input : h("span.grow", { dataset: { value: text } }, entry.input),
      !option.required && h("button.chip-remove", { type: "button", tabindex: "-1", "aria-label": `Remove ${option.label}`, onclick: () => this.remove(entry) }, icon("close")),
      entry.problem,
    );
    this.entries.push(entry);
    this.bare?.node.remove();
    this.bare = null;
    this.row.append(entry.node);
    if (text) this.settle(entry);
    return entry;
  }

  textInput(entry, id, text) {
    return h("textarea", {
      id,
      rows: "1",
      value: text,
      spellcheck: "false",
      role: "combobox",
      "aria-expanded": "false",
      "aria-required": String(Boolean(entry.option.required)),
      "aria-description": entry.option.about,
      oninput: () => this.input(entry),
      onfocus: () => this.suggest(entry),
      onkeydown: (event) => this.key(event, entry),
      onblur: () => this.settle(entry),
    });
  }

  fileInput(entry, id) {
    const picker = h("input", { type: "file", hidden: true, tabindex: "-1", onchange: () => this.attach(picker.files[0], entry) });
    const button = h("button.chip-file", { id, type: "button", onclick: () => picker.click(), onfocus: () => this.suggest(entry), onkeydown: (event) => this.key(event, entry) }, "Choose a file", picker);
    button.picker = picker;
    return button;
  }

  /** Put a dropped or pasted file into an attachment option; returns false if there is none. */
  attach(file, entry) {
    if (!file) return false;
    const free = entry
      ?? this.entries.find((e) => e.option.type === TYPE.ATTACHMENT && !e.file)
      ?? this.addFrom(this.rest.find((option) => option.type === TYPE.ATTACHMENT));
    if (!free) return false;
    free.file = file;
    free.input.replaceChildren(file.name, free.input.picker);
    this.complain(free, "");
    return true;
  }

  addFrom(option) {
    return option && this.add(option);
  }

  remove(entry) {
    const at = this.entries.indexOf(entry);
    this.entries.splice(at, 1);
    entry.node.remove();
    const next = this.entries[Math.max(0, at - 1)];
    if (next) this.enter(next);
    else this.focus();
  }

  input(entry) {
    let text = entry.input.value.replace(/\s*\n\s*/g, " ");
    // The option's own name, typed where it is open already.
    const [own] = marks(text, [entry.option]);
    if (own?.start === 0) text = text.slice(own.end);
    if (text !== entry.input.value) entry.input.value = text;
    entry.value = undefined;
    entry.input.parentNode.dataset.value = text;
    this.complain(entry, "");
    // "… seed: 5" typed or pasted into a chip opens the option of that name.
    const [mark, ...more] = marks(text, this.rest);
    if (mark && mark.start > 0) {
      this.set(entry, text.slice(0, mark.start).trimEnd());
      let last = entry;
      [mark, ...more].forEach((found, at, all) => {
        last = this.add(found.option, text.slice(found.end, all[at + 1]?.start ?? text.length).trim());
      });
      return this.enter(last);
    }
    return this.suggest(entry, true);
  }

  set(entry, text, value) {
    entry.input.value = text;
    entry.value = value;
    entry.input.parentNode.dataset.value = text;
  }

  complain(entry, sentence) {
    entry.problem.textContent = sentence;
    entry.node.classList.toggle("wrong", Boolean(sentence));
    entry.input.setAttribute("aria-invalid", String(Boolean(sentence)));
  }

  /** Return an option's fixed choices, or null where any text goes. */
  choices(option) {
    if (option.choices?.length) {
      return option.choices.map((c) => ({ ...c, label: c.name_localizations?.[this.host.locale()] ?? c.name }));
    }
    if (option.type === TYPE.BOOLEAN) return [{ name: "True", value: true }, { name: "False", value: false }];
    if ([TYPE.USER, TYPE.MENTIONABLE].includes(option.type)) return this.host.users();
    if (option.type === TYPE.CHANNEL) return this.host.channels();
    if (option.type === TYPE.ROLE) return this.host.roles();
    return null;
  }

  suggest(entry, typed = false) {
    const { option } = entry;
    clearTimeout(this.timer);
    if (option.autocomplete) {
      // Until the bot answers, Enter chooses nothing that does not fit what is typed by now.
      if (typed) {
        const text = entry.input.value.trim().toLowerCase();
        const fitting = (entry.found ?? []).filter((c) => (c.label ?? c.name).toLowerCase().includes(text));
        this.list(entry, fitting, text ? 0 : -1, false);
      }
      this.timer = setTimeout(() => this.complete(entry), typed ? AUTOCOMPLETE_WAIT_MS : 0);
      return;
    }
    const all = this.choices(option);
    if (!all) return this.offer(entry);
    const text = entry.input.value.trim().toLowerCase();
    const name = (c) => c.label ?? c.name;
    const exact = all.find((c) => name(c).toLowerCase() === text);
    const fitting = typed && !exact ? all.filter((c) => name(c).toLowerCase().includes(text)) : all;
    this.list(entry, fitting, exact && !typed ? all.indexOf(exact) : 0, Boolean(exact));
  }

  async complete(entry) {
    const { options } = this.collect(true);
    const asked = entry.input.value;
    const choices = await this.host.complete(this.leaf.path, options, entry.option.name).catch(() => []);
    if (document.activeElement !== entry.input || entry.input.value !== asked) return;
    entry.found = choices;
    this.list(entry, choices, entry.input.value ? 0 : -1, entry.value !== undefined);
  }

  list(entry, choices, active, settled) {
    this.host.panel.show(entry.input, {
      title: entry.option.label,
      about: entry.option.about,
      active: settled ? -1 : active,
      items: choices.slice(0, MOST_CHOICES).map((choice) => ({
        label: choice.label ?? choice.name,
        pick: () => {
          this.set(entry, choice.label ?? choice.name, choice.value);
          this.complain(entry, "");
          this.next(entry);
        },
      })),
    });
  }

  /** Offer the options that are not in the row yet. */
  offer(entry) {
    this.host.panel.show(entry.input, {
      title: entry.option.label,
      about: entry.option.about,
      chips: true,
      items: this.rest.map((option) => ({
        label: option.label,
        icon: icon("plus"),
        pick: () => this.enter(this.add(option)),
      })),
    });
  }

  /** After a choice: to the next empty option, else the list closes and Enter sends. */
  next(entry) {
    const empty = this.entries.find((e) => e.option.required && !e.input.value && !e.file);
    if (empty) this.enter(empty);
    else {
      entry.input.focus();
      this.offer(entry);
    }
  }

  settle(entry) {
    const choices = this.choices(entry.option);
    const text = entry.input.value?.trim().toLowerCase();
    if (!choices || !text || entry.value !== undefined) return;
    const hit = choices.find((c) => [c.label ?? c.name, c.name, String(c.value)].some((n) => n.toLowerCase() === text));
    if (hit) this.set(entry, hit.label ?? hit.name, hit.value);
  }

  key(event, entry) {
    if (event.isComposing) return;
    const field = entry.input;
    if (event.key === "Enter" && entry.option.type === TYPE.ATTACHMENT) return;
    if (this.host.panel.key(event)) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.host.send();
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.host.leave("");
    } else if (event.key === "Backspace" && !field.value && !entry.file) {
      event.preventDefault();
      if (!entry.option.required) this.remove(entry);
      else if (entry === this.entries[0]) this.host.leave(`/${this.leaf.label}`);
      else this.enter(this.entries[this.entries.indexOf(entry) - 1]);
    }
  }

  /** Return {options, files}, or null after showing what is wrong; `lenient` leaves that out. */
  collect(lenient = false) {
    const options = {};
    const files = [];
    let wrong = null;
    if (this.bare?.text) {
      this.bare.complain("No such option. Choose one, or delete this.");
      this.bare.input.focus();
      return null;
    }
    for (const entry of this.entries) {
      const { option } = entry;
      const text = entry.input.value ?? "";
      try {
        if (option.type === TYPE.ATTACHMENT) {
          if (entry.file) options[option.name] = files.push(entry.file) - 1;
          else if (option.required) throw new Error("Choose a file.");
        } else if (entry.value !== undefined) options[option.name] = entry.value;
        else if (text.trim()) options[option.name] = valueOf(option, text, entry.found ?? this.choices(option));
        else if (option.required) throw new Error("This is needed.");
      } catch (error) {
        if (lenient) options[option.name] = text;
        else {
          this.complain(entry, error.message);
          wrong ??= entry;
        }
      }
    }
    if (!wrong) return { options, files };
    wrong.input.focus();
    return null;
  }
}
