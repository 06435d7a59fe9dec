// Buttons and select menus of a message, and the fields of a form.

import { h, icon, safeUrl } from "./dom.js";
import { fileCard, picture } from "./embeds.js";
import { markdown } from "./markdown.js";
import { closeMenu, isOpen, openMenu } from "./menu.js";

const STYLES = ["", "primary", "secondary", "success", "danger", "link", "primary"];

const emojiText = (emoji) => emoji?.name ?? "";

function button(item, press) {
  const content = [
    item.emoji && h("span.emoji", { "aria-hidden": "true" }, emojiText(item.emoji)),
    item.label && h("span", null, item.label),
  ];
  const name = item.label ?? emojiText(item.emoji);
  if (item.style === 5) {
    return h("a.button.link", { href: safeUrl(item.url), target: "_blank", rel: "noopener noreferrer" }, content, icon("external"));
  }
  const node = h(
    `button.button.${STYLES[item.style] ?? "secondary"}`,
    {
      type: "button",
      disabled: item.disabled,
      "aria-label": item.label ? null : name,
      dataset: { customId: item.custom_id ?? "" },
      onclick: () => {
        if (node.dataset.busy === undefined) press(item, undefined, node);
      },
    },
    h("span.button-face", null, content),
    h("span.dots", { "aria-hidden": "true" }, h("i"), h("i"), h("i")),
  );
  return node;
}

/** Draw a string select; `chosen(values)` is told when the choice is made. */
export function select(item, chosen) {
  const least = item.min_values ?? 1;
  const most = item.max_values ?? 1;
  const multiple = most > 1;
  let values = item.options.filter((option) => option.default).map((option) => option.value);
  const face = h("span.select-face");
  const node = h(
    "button.select",
    {
      type: "button",
      disabled: item.disabled,
      "aria-haspopup": "listbox",
      "aria-expanded": "false",
      dataset: { customId: item.custom_id ?? "" },
      onclick: open,
    },
    face,
    icon("chevron"),
  );

  function show() {
    const labels = item.options.filter((o) => values.includes(o.value)).map((o) => o.label);
    face.textContent = labels.join(", ") || item.placeholder || "Make a selection";
    face.classList.toggle("empty", !labels.length);
    node.setAttribute("aria-label", `${item.placeholder ?? "Selection"}: ${labels.join(", ") || "nothing chosen"}`);
  }

  function open() {
    if (isOpen(node)) return closeMenu();
    const before = values;
    const entries = item.options.map((option) => ({
      label: option.label,
      detail: option.description,
      icon: option.emoji && h("span.emoji", { "aria-hidden": "true" }, emojiText(option.emoji)),
      selected: values.includes(option.value),
      pick() {
        if (!multiple) values = [option.value];
        else if (values.includes(option.value)) values = values.filter((v) => v !== option.value);
        else if (values.length < most) values = [...values, option.value];
        this.selected = values.includes(option.value);
        show();
        if (!multiple) chosen(values, node);
      },
    }));
    openMenu(node, entries, {
      label: item.placeholder ?? "Selection",
      choice: true,
      multiple,
      onClose() {
        if (!multiple || values.length < least) return;
        if (values.join("\0") !== before.join("\0")) chosen(values, node);
      },
    });
  }

  show();
  return node;
}

const FILE_NAME = /[^/?#]*(?=[?#]|$)/;

// One picture is shown whole; several fill a mosaic, as Discord lays them out.
const gallery = (item) =>
  h("div.gallery", { dataset: { count: item.items.length } }, item.items.map((entry) =>
    picture(entry.media.url, { ...entry.media, alt: entry.description ?? "", hidden: entry.spoiler })));

// Parts of a layout message (components version 2) by type.
const LAYOUT = {
  9: (item, draw) =>
    h("div.section", null, h("div.section-text", null, item.components.map(draw)), draw(item.accessory)),
  10: (item, draw, context) => h("div.md", null, markdown(item.content, context)),
  11: (item) => h("div.embed-thumbnail", null, picture(item.media.url, { ...item.media, alt: item.description ?? "", hidden: item.spoiler })),
  12: gallery,
  13: (item) => fileCard({ url: item.file.url, filename: FILE_NAME.exec(item.file.url)[0], size: item.size }),
  14: (item) => h(item.divider === false ? "div.gap" : "hr"),
  17: (item, draw) => {
    const { accent_color: color } = item;
    if (typeof color !== "number") return h("div.container", null, item.components.map(draw));
    const bar = { "--bar": `#${color.toString(16).padStart(6, "0")}` };
    return h("div.container.accented", { style: bar }, item.components.map(draw));
  },
};

const within = (items) => (items ?? []).flatMap((item) => [item, ...within(item.components), ...within(item.accessory && [item.accessory])]);

/** Return what a message says: its content, or the texts of its components. */
export function textOf(message) {
  const texts = within(message.components).filter((item) => item.type === 10).map((item) => item.content);
  return [message.content, ...texts].filter(Boolean).join("\n");
}

/** Say whether a message's components show a picture. */
export const showsPicture = (message) => within(message.components).some((item) => item.type === 11 || item.type === 12);

/** Return components without what can be pressed, as they stand in a forwarded message. */
export const withoutControls = (items) =>
  (items ?? []).filter((item) => item.type !== 1).map((item) => (item.components ? { ...item, components: withoutControls(item.components) } : item));

/** Draw a message's components; `press(item, values, node)` is told of each use. */
export function components(items, press, context) {
  const draw = (item) => {
    if (item.type === 1) return h("div.action-row", null, item.components.map(draw));
    if (item.type === 2) return button(item, press);
    if (item.type === 3) return select(item, (values, node) => press(item, values, node));
    const part = LAYOUT[item.type];
    return part
      ? part(item, draw, context)
      : h("div.unsupported", null, `A component of type ${item.type} is not shown here.`);
  };
  return h("div.components", null, items.map(draw));
}
