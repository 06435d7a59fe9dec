// Forms that the bot opens.

import { select } from "./components.js";
import { showDialog } from "./dialog.js";
import { avatar, h, icon } from "./dom.js";

const SHORT = 1;

function textField(item, label, description, values) {
  values[item.custom_id] = item.value ?? "";
  const id = `field-${crypto.randomUUID()}`;
  const required = item.required !== false;
  const count = h("span.count", { "aria-hidden": "true" });
  const field = h(item.style === SHORT ? "input" : "textarea", {
    id,
    name: item.custom_id,
    placeholder: item.placeholder,
    required,
    minlength: item.min_length,
    maxlength: item.max_length ?? 4000,
    rows: item.style === SHORT ? null : "6",
    value: item.value ?? "",
    "aria-describedby": description ? `${id}-about` : null,
    oninput: update,
  });
  function update() {
    values[item.custom_id] = field.value;
    count.textContent = item.max_length ? `${field.value.length}/${item.max_length}` : "";
  }
  update();
  return h(
    "div.field",
    null,
    h("label", { for: id }, label, required && h("span.required", { title: "required" }, "*"), count),
    description && h("p.field-about", { id: `${id}-about` }, description),
    field,
  );
}

function fileField(item, label, description, values) {
  values[item.custom_id] = [];
  const id = `field-${crypto.randomUUID()}`;
  const picker = h("input", {
    id,
    type: "file",
    name: item.custom_id,
    required: item.required !== false,
    multiple: (item.max_values ?? 1) > 1,
    onchange: () => { values[item.custom_id] = [...picker.files]; },
  });
  return h("div.field", null, h("label", { for: id }, label), description && h("p.field-about", null, description), picker);
}

/** Return the values with each file as its place in the list of all, and that list. */
function withFiles(values) {
  const files = [];
  const place = (value) => (value instanceof File ? files.push(value) - 1 : value);
  const sent = Object.entries(values).map(([name, value]) => [name, Array.isArray(value) ? value.map(place) : value]);
  return [Object.fromEntries(sent), files];
}

function field(item, values) {
  if (item.type === 1) return item.components.map((child) => field(child, values));
  if (item.type === 4) return textField(item, item.label ?? "", null, values);
  if (item.type === 18) {
    const inner = item.component;
    if (inner.type === 4) return textField(inner, item.label, item.description, values);
    if (inner.type === 19) return fileField(inner, item.label, item.description, values);
    if (inner.type === 3) {
      values[inner.custom_id] = inner.options.filter((o) => o.default).map((o) => o.value);
      return h(
        "div.field",
        null,
        h("span.field-label", null, item.label),
        item.description && h("p.field-about", null, item.description),
        select(inner, (chosen) => { values[inner.custom_id] = chosen; }),
      );
    }
  }
  if (item.type === 10) return h("p.field-about", null, item.content);
  return h("p.unsupported", null, `A field of type ${item.type} is not shown here.`);
}

/** Open a form; `submit(values, files)` is awaited, and a sentence that it throws is shown. */
export function openForm({ title, components }, bot, submit) {
  const values = {};
  const problem = h("p.problem", { role: "alert", hidden: true });
  const go = h("button.button.primary", { type: "submit" }, "Submit");
  const dialog = h(
    "dialog.form",
    { "aria-labelledby": "form-title" },
    h(
      "form",
      {
        method: "dialog",
        async onsubmit(event) {
          event.preventDefault();
          go.disabled = true;
          try {
            await submit(...withFiles(values));
            dialog.close();
          } catch (error) {
            problem.textContent = error.message;
            problem.hidden = false;
            go.disabled = false;
          }
        },
      },
      h(
        "header",
        null,
        avatar(bot),
        h("h2", { id: "form-title" }, title),
        h("button.icon-button", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, icon("close")),
      ),
      h("div.fields", null, components.map((item) => field(item, values))),
      problem,
      h(
        "footer",
        null,
        h("button.button.secondary", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        go,
      ),
    ),
  );
  showDialog(dialog);
  dialog.querySelector("input, textarea")?.focus();
}
