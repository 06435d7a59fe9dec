// The message box: plain text, the command picker, files, replies.

import { fileSize, h, icon } from "./dom.js";
import { CommandForm } from "./command-form.js";
import { flatten, mainOption, matching, parse, visible } from "./commands.js";
import { Panel } from "./panel.js";

// What the toy model draws well; Qwen-Image draws all of them.
const PROMPTS = {
  en: [
    "a lighthouse", "three green triangles", "CAT in white letters on blue",
    "a red heart on black", "蓝色的月亮",
  ],
  zh: [
    "一座灯塔", "黄色背景上的三个绿色三角形", "蓝色背景上的白色字母CAT", "黑色背景上的红色爱心", "蓝色的月亮",
  ],
};

/**
 * The form at the bottom. `host` gives state(), user(), channel(), isDm(), and does
 * say(content, files, replyTo), command(path, options, files), complete(path, options, name),
 * all three at once and with a promise.
 */
export class Composer {
  constructor(form, host) {
    this.host = host;
    this.form = form;
    this.files = [];
    this.command = null;
    this.replyTo = null;
    this.visit = 0;
    this.panel = new Panel();
    this.picker = h("input", { type: "file", multiple: true, hidden: true, tabindex: "-1", onchange: () => this.takeFiles([...this.picker.files]) });
    this.text = h("textarea", {
      id: "text", rows: "1", role: "combobox", "aria-expanded": "false", "aria-autocomplete": "list",
      oninput: () => this.input(), onkeydown: (event) => this.key(event),
      onblur: () => !this.command && this.panel.hide(), onfocus: () => this.input(),
    });
    this.grow = h("div.grow.text-box", { dataset: { value: "" } }, this.text);
    this.slot = h("div.slot", null, this.grow);
    this.suggestions = h("div.suggestions", { role: "group", "aria-label": "Try one of these" });
    this.reply = h("div.reply-bar", { hidden: true });
    this.tray = h("div.tray", { hidden: true });
    this.problem = h("p.problem", { role: "alert", hidden: true });
    this.button = h("button.icon-button.send", { type: "submit", "aria-label": "Send" }, icon("send"));
    this.attachButton = h("button.icon-button", { type: "button", "aria-label": "Attach a file", onclick: () => this.picker.click() }, icon("plus"));
    this.slash = h("button.icon-button", { type: "button", "aria-label": "Commands", title: "Commands", onclick: () => this.openPicker() }, icon("slash"));
    form.append(
      this.suggestions,
      h("div.box-wrap", null, this.panel.node, this.problem, this.reply, this.tray, h("div.box", null, this.attachButton, this.slot, this.slash, this.button)),
      this.picker,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    form.addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files];
      if (files.length) {
        event.preventDefault();
        this.takeFiles(files);
      }
    });
    form.addEventListener("focusout", (event) => {
      if (!form.contains(event.relatedTarget)) this.panel.hide();
    });
  }

  /** Begin afresh for another channel or user. */
  reset(placeholder) {
    this.visit += 1;
    this.leave("", false);
    this.files = [];
    this.setReply(null);
    this.drawTray();
    this.complain("");
    this.text.placeholder = placeholder;
    this.text.setAttribute("aria-label", placeholder);
  }

  leaves() {
    const user = this.host.user();
    const commands = this.host.state().commands.filter((c) => visible(c, this.host.place()));
    return flatten(commands, user.locale);
  }

  /** Offer a few first prompts where /imagine can be used, or none. */
  suggest(on) {
    const find = () => this.leaves().find((entry) => entry.path === "imagine");
    const prompts = on && find() ? PROMPTS[this.host.user().locale.startsWith("zh") ? "zh" : "en"] : [];
    if (prompts === this.suggested) return; // A button that has the focus keeps it.
    this.suggested = prompts;
    const begin = (prompt) => {
      const leaf = find();
      this.begin(leaf, { [mainOption(leaf).name]: prompt });
    };
    this.suggestions.replaceChildren(
      ...prompts.map((prompt) =>
        h("button.suggestion", { type: "button", onclick: () => begin(prompt) }, prompt)),
    );
  }

  complain(sentence) {
    this.problem.textContent = sentence;
    this.problem.hidden = !sentence;
  }

  /** Go into command mode. */
  begin(leaf, values = {}) {
    const command = new CommandForm(leaf, values, {
      panel: this.panel,
      users: () => this.host.people().map((user) => ({ name: user.display_name ?? user.name, value: user.id })),
      roles: () => this.host.roles().map((role) => ({ name: role.name, value: role.id })),
      channels: () => this.host.places().map((channel) => ({ name: channel.name, value: channel.id })),
      locale: () => this.host.user().locale,
      complete: (path, options, focused) => this.host.complete(path, options, focused),
      send: () => this.send(),
      leave: (text) => this.leave(text),
    });
    this.show(command);
  }

  show(command) {
    this.command = command;
    this.set("");
    this.complain("");
    this.slash.hidden = true;
    this.attachButton.hidden = !command.takesFiles;
    this.slot.replaceChildren(command.node);
    command.focus();
  }

  leave(text, focus = true) {
    this.panel.hide();
    this.command = null;
    this.slash.hidden = false;
    this.attachButton.hidden = false;
    this.slot.replaceChildren(this.grow);
    this.set(text);
    if (focus) {
      this.text.focus();
      this.input();
    }
  }

  set(text) {
    this.text.value = text;
    this.grow.dataset.value = text;
  }

  openPicker() {
    this.leave("/");
  }

  input() {
    const text = this.text.value;
    this.grow.dataset.value = text;
    this.complain("");
    if (!text.startsWith("/")) return this.panel.hide();
    const leaves = this.leaves();
    const read = parse(text, leaves);
    if (read?.complete) return this.begin(read.leaf, read.values);
    const found = matching(leaves, text.slice(1).trimEnd());
    return this.panel.show(this.text, {
      title: found.length ? "Commands" : "No such command",
      active: 0,
      items: found.map((leaf) => ({
        label: `/${leaf.label}`,
        detail: leaf.description,
        badge: leaf.options.filter((o) => o.required).map((o) => o.label).join(" "),
        pick: () => this.pick(leaf),
      })),
    });
  }

  // A command without options that was typed in full is sent by the same Enter.
  pick(leaf) {
    const whole = [leaf.path, leaf.label].includes(this.text.value.slice(1).trim());
    this.begin(leaf);
    if (whole && !leaf.options.length) this.send();
  }

  key(event) {
    if (event.isComposing || this.panel.key(event)) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape") {
      if (this.panel.open) this.panel.hide();
      else this.setReply(null);
    }
  }

  /** Answer a message with the next one. */
  setReply(message) {
    this.replyTo = message;
    this.reply.hidden = !message;
    this.reply.replaceChildren(
      ...(message
        ? ["Replying to ", h("b", null, this.host.nameOf(message)), h("button.icon-button", { type: "button", "aria-label": "Do not reply", onclick: () => this.setReply(null) }, icon("close"))]
        : []),
    );
    if (message) this.text.focus();
  }

  takeFiles(files) {
    this.picker.value = "";
    if (this.command) {
      if (!this.command.attach(files[0])) this.complain(`/${this.command.leaf.label} takes no file.`);
      return;
    }
    this.files.push(...files);
    this.drawTray();
    this.text.focus();
  }

  drawTray() {
    this.tray.hidden = !this.files.length;
    for (const img of this.tray.querySelectorAll("img")) URL.revokeObjectURL(img.src);
    this.tray.replaceChildren(
      ...this.files.map((file, at) =>
        h(
          "div.tray-item",
          null,
          file.type.startsWith("image/") ? h("img", { src: URL.createObjectURL(file), alt: "" }) : icon("file"),
          h("span", null, h("b", null, file.name), h("small", null, fileSize(file.size))),
          h("button.icon-button", {
            type: "button",
            "aria-label": `Remove ${file.name}`,
            onclick: () => {
              this.files.splice(at, 1);
              this.drawTray();
              this.text.focus();
            },
          }, icon("close")),
        )),
    );
  }

  send() {
    this.complain("");
    const { command, files, replyTo } = this;
    const text = this.text.value.trim();
    if (!command && !text && !files.length) return;
    const filled = command?.collect();
    if (command && !filled) return;
    this.leave("");
    if (!command) {
      this.files = [];
      this.drawTray();
      this.setReply(null);
    }
    const { visit } = this;
    const sent = command
      ? this.host.command(command.leaf.path, filled.options, filled.files)
      : this.host.say(text, files, replyTo);
    sent.catch((error) => {
      if (visit === this.visit) this.giveBack({ command, text, files, replyTo });
      this.complain(error.message);
    });
  }

  // What was refused can be mended and sent again, unless something else is being written.
  giveBack({ command, text, files, replyTo }) {
    if (this.command || this.text.value || this.files.length) return;
    if (command) return this.show(command);
    this.files = files;
    this.drawTray();
    this.setReply(replyTo);
    return this.leave(text);
  }
}
