// Small helpers that build DOM nodes. Text only ever becomes a text node.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `h("button.primary", {type: "button", onclick}, child, …)`. */
export function h(tag, props, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(node.dataset, value);
    else if (key === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

/** Append children: nodes, strings, nested lists; null and false are skipped. */
export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child);
  }
}

const ICONS = {
  people: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 19c0-3 3-5 6-5s6 2 6 5M16 5a3 3 0 0 1 0 6M17 14c3 0 5 2 5 5",
  hash: "M9 4 7 20M17 4l-2 16M4 9h16M3 15h16",
  at: "M16 12a4 4 0 1 1-8 0 4 4 0 0 1 8 0zm0 0v1.5a2.5 2.5 0 0 0 5 0V12a9 9 0 1 0-3.5 7.1",
  menu: "M4 6h16M4 12h16M4 18h16",
  plus: "M12 5v14M5 12h14",
  send: "M5 12 4 4l17 8-17 8 1-8zm0 0h7",
  close: "M6 6l12 12M18 6 6 18",
  chevron: "M6 9l6 6 6-6",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7zm13 0a3 3 0 1 1-6 0 3 3 0 0 1 6 0z",
  file: "M14 3H6v18h12V7zm0 0v4h4",
  external: "M14 4h6v6M20 4l-9 9M18 14v6H4V6h6",
  warn: "M12 4 2 20h20zm0 6v5m0 2.5v.01",
  slash: "M15 4 9 20",
  spark: "M12 3c.6 5.3 3.4 8.2 9 9-5.6.8-8.4 3.7-9 9-.6-5.3-3.4-8.2-9-9 5.6-.8 8.4-3.7 9-9z",
  check: "M5 12l5 5 9-10",
  download: "M12 4v11m-5-4 5 5 5-5M4 20h16",
};

/** Draw one of the page's line icons. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Return a stable hue for an id. */
function hue(id) {
  let sum = 7;
  for (const char of String(id)) sum = (sum * 33 + char.codePointAt(0)) % 3600;
  return (sum * 47) % 360;
}

/** Draw a coloured disc with a person's initial, or the bot's star. */
export function avatar(person, size = "") {
  const kind = `span.avatar${size && `.${size}`}`;
  if (person.bot) return h(`${kind}.bot`, { "aria-hidden": "true" }, icon("spark"));
  const name = person.display_name ?? person.global_name ?? person.username ?? person.name ?? "?";
  return h(
    kind,
    { "aria-hidden": "true", style: { "--hue": hue(person.id) } },
    [...name][0]?.toUpperCase() ?? "?",
  );
}

/** Return the address if it is one that the page may load or open, else null. */
export function safeUrl(address) {
  if (typeof address !== "string") return null;
  try {
    const url = new URL(address, location.href);
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Compare two snowflakes. */
export const byId = (a, b) => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);

const UNITS = ["bytes", "KB", "MB", "GB"];

/** Say a size in bytes for a person. */
export function fileSize(bytes) {
  let unit = 0;
  let size = bytes;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit ? size.toFixed(size < 10 ? 1 : 0) : size} ${UNITS[unit]}`;
}
